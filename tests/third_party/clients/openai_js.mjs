// The npm package `openai`.

import OpenAI from "openai";

import { reportCalls } from "./reporting.mjs";

await reportCalls(({ url, model, stream, timeout }) => {
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", timeout: timeout * 1000 });
  return async (prompt) => {
    const answer = await client.chat.completions.create({ model, messages: [{ role: "user", content: prompt }], stream });
    if (!stream) return answer.choices[0].message.content;
    let text = "";
    for await (const piece of answer) text += piece.choices[0]?.delta?.content ?? "";
    return text;
  };
});
