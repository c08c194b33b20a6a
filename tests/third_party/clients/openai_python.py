"""The Python package `openai`."""

import openai

from tests.third_party.reporting import report_calls


def connect(url, model, stream, timeout):
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", timeout=timeout)

    def ask(prompt):
        messages = [{"role": "user", "content": prompt}]
        answer = client.chat.completions.create(model=model, messages=messages, stream=stream)
        if not stream:
            return answer.choices[0].message.content
        return "".join(piece.choices[0].delta.content or "" for piece in answer if piece.choices)

    return ask


report_calls(connect)
