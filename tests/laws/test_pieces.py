"""A law of streams: a reader gets what was said, at whatever pace they read."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab import Answer, AsyncClient
from llmlab.core.streams import StreamedAttempt
from llmlab.virtual_time import run
from tests.laws.worlds import quarters


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from([0.25, 0.5]), st.sampled_from(["ab", ""])), max_size=6), quarters)
def test_a_reader_gets_every_piece_once_and_in_order_at_any_pace(story, pace):
    class Told:
        simulated = True

        async def attempt(self, request, *, timeouts, key):
            raise AssertionError

        def stream(self, request, *, timeouts, key):
            return StreamedAttempt(self.steps())

        async def steps(self):
            for number, (wait, piece) in enumerate(story):
                await asyncio.sleep(wait)
                yield piece and f"{piece}{number}"
            yield Answer("complete")

    async def main():
        pieces = []
        async with AsyncClient(Told()).stream("Hello") as stream:
            async for piece in stream:
                pieces.append(piece)
                await asyncio.sleep(pace)
        return pieces

    assert run(main()) == [f"{piece}{number}" for number, (_, piece) in enumerate(story) if piece]
