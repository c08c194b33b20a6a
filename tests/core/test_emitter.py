import logging

import pytest

from llmlab import AsyncClient, Client, EventLog, MockBackend, MockLLM


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
    with caplog.at_level(logging.ERROR, logger="llmlab"), MockLLM(observers=[broken, log, broken]) as llm:
        for _ in range(3):
            assert llm.generate("Hello").ok
    assert len(caplog.records) == 1
    assert caplog.records[0].exc_info
    assert "Broken" in caplog.text
    assert (len(log.attempts), len(log.calls)) == (3, 3)
    assert broken.received == 12, "it gets all events, as often as it is in the list"


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
        (EventLog(), "observers must be a list of observers, got one"),
    ],
)
def test_what_cannot_observe_is_refused_at_once(client, observers, message):
    with pytest.raises(TypeError, match=message):
        client(MockBackend(), observers=observers)
