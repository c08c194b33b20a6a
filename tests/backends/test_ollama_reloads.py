"""Options that make Ollama load a model again are warned about, once, and nothing else is."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from llmlab.backends.ollama_reloads import LOAD_OPTIONS, seconds_of
from llmlab.llms import AsyncLocalLLM
from llmlab.server.recording import Exchange
from llmlab.server.replay import ReplayServer
from tests.ollama_replay import LAST, answer, line, listing, tags

INF = float("inf")


def last(load_s: float) -> bytes:
    return line(done=True, done_reason="stop", load_duration=int(load_s * 1e9))


def in_memory(context: int | None, name: str = "m:latest") -> Exchange:
    return listing("/api/ps", {"name": name, **({} if context is None else {"context_length": context})})


@contextmanager
def warnings_of(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    caplog.set_level(logging.WARNING, logger="llmlab")
    said: list[str] = []
    yield said
    said += [record.getMessage() for record in caplog.records]


def asked(calls: int, *exchanges: Exchange, **settings: Any) -> list[str]:
    """Make calls one after another; return the paths asked for."""

    async def main() -> None:
        async with AsyncLocalLLM(base_url=server.url, model="m", **settings) as llm:
            for _ in range(calls):
                await llm.generate("a secret prompt")

    with ReplayServer(exchanges) as server:
        asyncio.run(main())
        return [request.path for request in server.received]


def test_a_model_that_is_loaded_with_another_context_is_warned_about_once(caplog):
    exchanges = [in_memory(2048), tags("m:latest", details={"context_length": 131072}), answer(line("a"), LAST)]
    with warnings_of(caplog) as said:
        paths = asked(3, *exchanges, options={"num_ctx": 8192})
    (text,) = said
    assert "'m' loaded with a context of 2048 tokens and now loads it again, for num_ctx=8192" in text
    assert ", ".join(sorted(LOAD_OPTIONS)) in text
    assert "secret" not in text
    assert paths.count("/api/ps") == 1


@pytest.mark.parametrize(
    ("loaded", "made_for", "wanted"),
    [
        (in_memory(8192), 131072, 8192),  # the same
        (in_memory(2048), 2048, 8192),  # no model gets more than it was made for
        (in_memory(None), 131072, 8192),  # an older server does not say
        (in_memory(2048, name="other:latest"), 131072, 8192),
        (listing("/api/ps"), 131072, 8192),
        (answer(b"nonsense", path="/api/ps", method="GET"), 131072, 8192),
        (answer(b"{}", path="/api/ps", method="GET", status="404 Not Found"), 131072, 8192),
        (in_memory(2048), 131072, "many"),  # what the server makes of that is its own answer
    ],
)
def test_what_is_no_reload_or_cannot_be_known_is_not_warned_about(caplog, loaded, made_for, wanted):
    installed = tags("m:latest", details={"context_length": made_for})
    with warnings_of(caplog) as said:
        asked(2, loaded, installed, answer(line("a"), LAST), options={"num_ctx": wanted})
    assert said == []


def test_without_num_ctx_nothing_is_asked(caplog):
    with warnings_of(caplog) as said:
        paths = asked(2, in_memory(2048), answer(line("a"), LAST), options={"num_thread": 2})
    assert set(paths) == {"/api/generate"}
    assert said == []


def test_a_model_that_had_answered_and_was_loaded_again_is_warned_about_once(caplog):
    turns = [answer(line("a"), last(seconds)) for seconds in (1.6, 0.001, 1.6, 1.6)]
    with warnings_of(caplog) as said:
        asked(4, *turns, options={"num_gpu": 0, "temperature": 1})
    (text,) = said
    assert "loaded 'm' again, which took 1.6 s" in text
    assert "asks for other options than this client (num_gpu=0)" in text
    assert "secret" not in text


@pytest.mark.parametrize("keep_alive", [0, "0", "0s"])
def test_a_model_that_is_not_to_be_kept_may_be_loaded_each_time(caplog, keep_alive):
    with warnings_of(caplog) as said:
        asked(3, answer(line("a"), last(1.6)), keep_alive=keep_alive)
    assert said == []


def test_calls_that_waited_for_the_same_first_load_are_not_warned_about(caplog):
    async def main() -> None:
        async with AsyncLocalLLM(base_url=server.url, model="m") as llm:
            await asyncio.gather(*(llm.generate("Hello") for _ in range(4)))

    with ReplayServer([answer(line("a"), last(1.6))]) as server, warnings_of(caplog) as said:
        asyncio.run(main())
    assert said == []


@pytest.mark.parametrize(
    ("keep_alive", "seconds"),
    [(0, 0), (90, 90), (1.5, 1.5), (-1, INF), ("5m", 300), ("1h30m", 5400), ("100ms", 0.1), ("0", 0), ("-1s", INF)],
)
def test_keep_alive_is_understood_in_seconds(keep_alive, seconds):
    assert seconds_of(keep_alive) == pytest.approx(seconds)
