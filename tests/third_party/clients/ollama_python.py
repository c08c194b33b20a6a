"""The Python package `ollama`."""

import ollama

from tests.third_party.reporting import report_calls


def connect(url, model, stream, timeout):
    client = ollama.Client(host=url, timeout=timeout)

    def ask(prompt):
        answer = client.chat(model=model, messages=[{"role": "user", "content": prompt}], stream=stream)
        return "".join(piece.message.content or "" for piece in answer) if stream else answer.message.content

    return ask


report_calls(connect)
