// The npm package `ollama`; it has no timeout to set.

import { Ollama } from "ollama";

import { reportCalls } from "./reporting.mjs";

await reportCalls(({ url, model, stream }) => {
  const client = new Ollama({ host: url });
  return async (prompt) => {
    const answer = await client.chat({ model, messages: [{ role: "user", content: prompt }], stream });
    if (!stream) return answer.message.content;
    let text = "";
    for await (const piece of answer) text += piece.message.content;
    return text;
  };
});
