"""An example: an application that calls a model through the SDK of OpenAI, tested as it is, without a server.

The application below knows nothing of llmlab; the tests give it another `http_client`, as they would give it another
database. `virtual_time` lets its waiting take no time.
"""

import asyncio

import openai
import pytest

from llmlab import MockBackend, SimulatedTransport, seeded_random
from llmlab.virtual_time import run

# ---- the application


class Summariser:
    """Summarises texts, and says so where it cannot."""

    def __init__(self, http_client=None, base_url=None):
        self._client = openai.AsyncOpenAI(api_key="none", base_url=base_url, http_client=http_client, timeout=10.0)

    async def summary(self, text):
        messages = [{"role": "user", "content": f"Summarise: {text}"}]
        try:
            async with asyncio.timeout(30.0):
                answer = await self._client.chat.completions.create(model="any", messages=messages)
        except (openai.APIError, TimeoutError):
            return "(no summary now)"
        return answer.choices[0].message.content


# ---- its tests


@pytest.fixture
def summarised():
    """Ask the application once, with the server's weather of the test's choice; return the text, when, and requests."""

    def ask(**weather):
        transport = SimulatedTransport(MockBackend(text="In short: yes.", latency=2.0, **weather))

        async def main():
            application = Summariser(openai.DefaultAsyncHttpxClient(transport=transport), "http://simulated/v1")
            return await application.summary("a long story"), asyncio.get_running_loop().time()

        with seeded_random(0):
            return *run(main(), executor="inline"), transport.requests()

    return ask


def test_it_summarises(summarised):
    text, seconds, requests = summarised()
    assert (text, seconds, len(requests)) == ("In short: yes.", 2.0, 1)


def test_an_overloaded_server_costs_three_requests_and_is_no_crash(summarised):
    text, _, requests = summarised(overload_probability=1.0)
    assert text == "(no summary now)"
    assert list(requests.status) == [503, 503, 503]


def test_a_server_that_says_nothing_is_given_up_within_its_deadline(summarised):
    text, seconds, requests = summarised(timeout_probability=1.0)
    assert (text, seconds) == ("(no summary now)", 30.0)
    assert list(requests.ended_by) == ["client"] * 3  # it hung up each time, and left nothing open
