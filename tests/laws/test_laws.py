"""Every law, for random worlds. An example that fails prints a program that runs it again.

`HYPOTHESIS_PROFILE=explore pytest tests/laws` looks for worlds that no run has met yet, thousands of them.
"""

import os

import pytest
from hypothesis import given, settings

from llmlab import ClientPolicy, ClosedLoop, Experiment, JsonLinesObserver, MockBackend, RetryPolicy
from tests.laws import laws
from tests.laws.laws import LAWS, check
from tests.laws.recording import recorded
from tests.laws.worlds import WORLDS, Visit, World, snippet

EXPLORING = os.environ.get("HYPOTHESIS_PROFILE") == "explore"


def checked(world):
    """Run a world and check it; whatever goes wrong is followed by the program that shows it again."""
    try:
        check(recorded(world))
    except Exception as error:
        error.add_note(f"This program shows it again:\n\n{snippet(world)}")
        raise


@settings(max_examples=4000 if EXPLORING else 400)
@given(WORLDS)
def test_every_law_holds_in_every_world(world):
    checked(world)


@settings(max_examples=400 if EXPLORING else 40)
@given(WORLDS)
def test_the_same_seed_gives_the_same_bytes(tmp_path_factory, world):
    def written():
        path = tmp_path_factory.mktemp("events") / "events.jsonl"
        with JsonLinesObserver(path) as observer:
            recorded(world, [observer])
        return path.read_bytes()

    assert written() == written(), snippet(world)


@settings(max_examples=40)
@given(WORLDS)
def test_the_program_that_shows_a_world_again_builds_an_equal_one(world):
    program = snippet(world).replace("check(recorded(world))\n", "")
    namespace = {}
    exec(compile(program, "snippet", "exec"), namespace)
    assert snippet(namespace["world"]) == snippet(world)


BROKEN = World(
    Experiment(
        backend=MockBackend(latency=1.0, overload_probability=0.5),
        policy=ClientPolicy(retry=RetryPolicy(max_retries=2), max_concurrency=2),
        workload=ClosedLoop(calls=6, users=3),
    ),
    visits=(Visit(at=0.25, wants="stream"), Visit(at=0.5, cancelled=(0.25, 1))),
)


def test_a_law_that_is_broken_says_which_and_how_to_see_it_again(monkeypatch):
    def no_attempt_fails(record):
        assert all(attempt.reason is None for attempt in record.log.attempts)

    monkeypatch.setattr(laws, "LAWS", (*LAWS, no_attempt_fails))
    with pytest.raises(AssertionError) as broken:
        checked(BROKEN)
    law, program = broken.value.__notes__
    assert "no_attempt_fails" in law
    with pytest.raises(AssertionError):  # in this process, where that law holds too
        exec(compile(program.partition("\n\n")[2], "program", "exec"), {})


def test_each_law_has_something_to_say_of_a_world():
    """A record that was tampered with is found out: the laws look at what they are given."""
    record = recorded(BROKEN)
    check(record)
    record.log.on_attempt(record.log.attempts[0])
    with pytest.raises(AssertionError):
        check(record)
