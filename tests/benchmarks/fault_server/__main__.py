"""How many short requests a second the fault server serves on one core.

    python -m tests.benchmarks.fault_server

The server runs in a process of its own, with answers that take no time; the clients are bare sockets, 16 at once over
connections that are kept. What counts is the server's own CPU time: it is the same whatever else the machine does, and
its inverse is what one core serves.
"""

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REQUESTS, CONNECTIONS, ROUNDS = 6_000, 16, 3
SETTINGS = 'latency = {kind = "constant", value = 0.0}\ntext = "Hello there, world."\n'
BODIES = {
    "/api/generate": b'{"model": "mock", "prompt": "Hello", "stream": false}',
    "/v1/chat/completions": b'{"model": "mock", "messages": [{"role": "user", "content": "Hello"}]}',
}


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def ask(port: int, path: str, times: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len(BODIES[path])}\r\n\r\n"
    for _ in range(times):
        writer.write(head.encode() + BODIES[path])
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200"), answer
        length = re.search(rb"content-length: (\d+)", answer, re.IGNORECASE)
        assert length is not None, answer
        await reader.readexactly(int(length[1]))
    writer.close()


async def load(port: int, path: str) -> None:
    await asyncio.gather(*(ask(port, path, REQUESTS // CONNECTIONS) for _ in range(CONNECTIONS)))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder, "fast.toml")
        settings.write_text(SETTINGS)
        command = [sys.executable, "-u", "-m", "llmlab", "serve", "--port", "0", "--backend", str(settings)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            found = re.search(r"http://127\.0\.0\.1:(\d+)", server.stdout.readline())
            assert found is not None
            port, count = int(found[1]), REQUESTS // CONNECTIONS * CONNECTIONS
            print(f"{'path':25} requests/s of one core   requests/s by the clock   us of CPU each")
            for path in BODIES:
                asyncio.run(load(port, path))  # warm
                for _ in range(ROUNDS):
                    began, used = time.perf_counter(), cpu_seconds(server.pid)
                    asyncio.run(load(port, path))
                    took, used = time.perf_counter() - began, cpu_seconds(server.pid) - used
                    print(f"{path:25} {count / used:22.0f} {count / took:25.0f} {1e6 * used / count:16.0f}")
            server.terminate()


if __name__ == "__main__":
    main()
