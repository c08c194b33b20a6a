"""The Python package `litellm`, over OpenAI's protocol."""

import litellm

from tests.third_party.reporting import report_calls


def connect(url, model, stream, timeout):
    def ask(prompt):
        answer = litellm.completion(
            model=f"openai/{model}",
            api_base=f"{url}/v1",
            api_key="none",
            messages=[{"role": "user", "content": prompt}],
            stream=stream,
            timeout=timeout,
        )
        if not stream:
            return answer.choices[0].message.content
        return "".join(piece.choices[0].delta.content or "" for piece in answer if piece.choices)

    return ask


report_calls(connect)
