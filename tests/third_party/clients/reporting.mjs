// What the JavaScript programs share; see ../reporting.py.

export async function reportCalls(connect) {
  const { timeout, calls, servers } = JSON.parse(process.argv[2]);
  for (const server of servers) {
    const ask = connect({ ...server, timeout });
    for (let number = 0; number < calls; number++) {
      const said = { url: server.url, started_at: Date.now() / 1000 };
      try {
        await ask(`Tell me fact number ${number}.`);
        said.outcome = "answered";
      } catch (error) {
        Object.assign(said, { outcome: "failed", error: error.constructor.name });
      }
      console.log(JSON.stringify({ ...said, ended_at: Date.now() / 1000 }));
    }
  }
}
