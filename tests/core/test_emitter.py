import logging

import pytest

from llmlab import (
    AsyncClient,
    Backoff,
    Client,
    ClientPolicy,
    EventLog,
    FailureReason,
    LoggingObserver,
    MockBackend,
    MockLLM,
    RetryPolicy,
)
from llmlab.core.emitter import Emitter
from llmlab.core.hedging import Hedging
from llmlab.virtual_time import run


class Broken:
    def __init__(self, *methods):
        self.methods = methods
        self.received = 0

    def on_attempt(self, event):
        self.received += 1
        if "on_attempt" in self.methods:
            raise RuntimeError("broken on_attempt")

    def on_call(self, event):
        self.received += 1
        if "on_call" in self.methods:
            raise RuntimeError("broken on_call")


@pytest.mark.parametrize("methods", [("on_attempt",), ("on_call",), ("on_attempt", "on_call")])
def test_an_observer_that_raises_breaks_nothing_and_is_reported_once(methods, caplog):
    broken, log = Broken(*methods), EventLog()
    with caplog.at_level(logging.ERROR, logger="llmlab"), MockLLM(observers=[broken, log]) as llm:
        for _ in range(3):
            assert llm.generate("Hello").ok
    assert len(caplog.records) == 1
    assert caplog.records[0].exc_info
    assert "Broken" in caplog.text
    assert (len(log.attempts), len(log.calls)) == (3, 3)
    assert broken.received == 6, "it gets all events"


def test_two_broken_observers_are_reported_each(caplog):
    with MockLLM(observers=[Broken("on_call"), Broken("on_call")]) as llm:
        llm.generate("Hello")
    assert len(caplog.records) == 2


class OnlyCalls:
    def on_call(self, event): ...


@pytest.mark.parametrize("client", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("observers", "message"),
    [
        ([OnlyCalls()], "has no on_attempt"),
        ([print], "has no on_attempt"),
        ([LoggingObserver], r"not the class LoggingObserver; write LoggingObserver\(\)"),
        (EventLog(), "observers must be a list of observers, got one"),
        (None, "observers must be a list of observers, got None; leave it out for none"),
    ],
)
def test_what_cannot_observe_is_refused_at_once(client, observers, message):
    with pytest.raises(TypeError, match=message):
        client(MockBackend(), observers=observers)


def test_an_observer_that_is_given_twice_is_refused():
    log = EventLog()
    with pytest.raises(ValueError, match="is given twice, and would get every event twice"):
        AsyncClient(MockBackend(), observers=[log, EventLog(), log])


def test_of_a_race_that_fails_the_last_to_fail_says_which_backoff_follows():
    log = EventLog()
    retry = RetryPolicy(max_retries=1, backoff=Backoff(base=1.0, jitter="none"))
    policy = ClientPolicy(retry=retry, hedging=Hedging(delay=0.5))
    server = MockBackend(script=["server_error", "server_error", "answer"], refusal_latency=2.0, latency=0.25)
    assert run(AsyncClient(server, policy, observers=[log]).generate("Hi")).ok
    waits = [(event.attempt, event.hedge, event.ended_at_s, event.backoff_source) for event in log.attempts]
    assert waits == [(1, False, 2.0, None), (2, True, 2.5, "backoff"), (3, False, 3.75, None)]
    assert [event.backoff_s for event in log.attempts][1] == 1.0
    assert log.attempts[0].reason == FailureReason.SERVER_ERROR


def test_an_emitter_may_be_made_of_plain_observers_and_of_other_emitters():
    log, other = EventLog(), EventLog()
    followed = Emitter([other])
    emitter = Emitter(of=[[log], followed])
    assert list(emitter) == [log, other]
    followed.remove(other)
    assert list(emitter) == [log]
