import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab import FailureReason, SettingsError
from llmlab.core.breaker import SICK, BreakerState, CircuitBreaker

FOUR = CircuitBreaker(failure_ratio=0.5, minimum_attempts=4, window=10, open_for=5)


def opened(breaker: CircuitBreaker = FOUR, at: float = 0.0) -> BreakerState:
    """Return a breaker that has just opened."""
    state = BreakerState(breaker)
    while state.state == "closed":
        state.allow(at)
        state.record(at, sick=True)
    return state


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ("", "closed"),
        ("sss", "closed"),  # three attempts are too few to tell
        ("ssss", "open"),
        ("hhhh", "closed"),
        ("hhs", "closed"),
        ("hhss", "open"),
        ("hhhs", "closed"),
        ("hhhss", "closed"),  # two of five
        ("hhhsss", "open"),
        ("sssh", "closed"),  # only a failure opens it ...
        ("sssh" + "s", "open"),  # ... here the next
    ],
)
def test_it_opens_when_the_share_of_failures_is_reached(outcomes, state):
    breaker = BreakerState(FOUR)
    for outcome in outcomes:
        assert breaker.allow(1.0)
        breaker.record(1.0, sick=outcome == "s")
    assert breaker.state == state


@pytest.mark.parametrize(
    ("at", "allowed", "wait"),
    [(0, False, 5), (2, False, 3), (4.999, False, 0.001), (5, True, 0), (99, True, 0)],
)
def test_open_lets_nothing_pass_for_its_time(at, allowed, wait):
    state = opened()
    assert state.wait(at) == pytest.approx(wait)
    assert bool(state.allow(at)) is allowed


@pytest.mark.parametrize(
    ("probes", "outcomes", "state"),
    [
        (1, "h", "closed"),
        (1, "s", "open"),
        (2, "h", "half_open"),
        (2, "hh", "closed"),
        (2, "hs", "open"),
        (3, "hhh", "closed"),
        (1, "-h", "closed"),  # cancelled, and asked again
        (2, "h-h", "closed"),
    ],
)
def test_probes_decide_when_half_open(probes, outcomes, state):
    breaker = opened(FOUR.replace(probes=probes))
    for outcome in outcomes:
        assert breaker.allow(5.0)
        if outcome == "-":
            breaker.forget()
        else:
            breaker.record(5.0, sick=outcome == "s")
    assert breaker.state == state


def test_no_more_probes_pass_than_are_asked_for():
    breaker = opened(FOUR.replace(probes=2))
    assert [bool(breaker.allow(5.0)) for _ in range(4)] == [True, True, False, False]
    breaker.record(5.5, sick=False)
    assert not breaker.allow(5.5)  # one answered, one out: two in all
    assert breaker.wait(5.5) == 0
    breaker.forget()
    assert breaker.allow(5.5)


def test_a_failed_probe_opens_it_for_the_whole_time_again():
    breaker = opened()
    breaker.allow(5.0)
    breaker.record(7.0, sick=True)
    assert breaker.wait(7.0) == 5
    assert not breaker.allow(11.9)
    assert breaker.allow(12.0)


def test_a_closed_breaker_starts_with_a_clean_record():
    breaker = opened()
    breaker.allow(5.0)
    breaker.record(5.0, sick=False)
    for _ in range(3):
        breaker.allow(5.0)
        breaker.record(5.0, sick=True)
    assert breaker.state == "closed"


def test_failures_older_than_the_window_do_not_count():
    breaker = BreakerState(FOUR)
    for at in (0.0, 0.5, 1.0, 10.9):
        breaker.allow(at)
        breaker.record(at, sick=True)
    assert breaker.state == "closed"
    for at in (11.0, 11.1, 11.2):
        breaker.allow(at)
        breaker.record(at, sick=True)
    assert breaker.state == "open"


@pytest.mark.parametrize("sick", [True, False])
def test_an_attempt_from_before_the_opening_does_not_speak_for_a_probe(sick):
    breaker = BreakerState(FOUR)
    slow = breaker.allow(0.0)
    for _ in range(4):
        breaker.record(0.0, sick=True, ticket=breaker.allow(0.0))
    probe = breaker.allow(5.0)
    breaker.record(6.0, sick=sick, ticket=slow)  # its timeout ends only now
    breaker.forget(slow)
    assert breaker.state == "half_open"
    assert not breaker.allow(6.0)
    breaker.record(7.0, sick=False, ticket=probe)
    assert breaker.state == "closed"
    breaker.record(8.0, sick=True, ticket=slow)
    assert breaker.state == "closed"


@given(st.integers(1, 200), st.integers(1, 100))
def test_a_share_in_hundredths_is_met_exactly(attempts, percent):
    needed = -(-percent * attempts // 100)  # rounded up
    breaker = BreakerState(CircuitBreaker(failure_ratio=percent / 100, minimum_attempts=attempts))
    for number in range(attempts):
        breaker.allow(0.0)
        breaker.record(0.0, sick=number >= attempts - needed)
    assert breaker.state == "open"
    fewer = BreakerState(CircuitBreaker(failure_ratio=percent / 100, minimum_attempts=attempts))
    for number in range(attempts):
        fewer.allow(0.0)
        fewer.record(0.0, sick=number >= attempts - needed + 1)
    assert fewer.state == "closed"


@given(st.floats(0, 1e6), st.floats(0.001, 100), st.floats(0, 1))
def test_who_waits_as_long_as_told_is_let_pass(at, open_for, part):
    breaker = opened(FOUR.replace(open_for=open_for), at)
    now = at + part * open_for
    for _ in range(3):  # a rounding may leave a last bit to wait for
        now += breaker.wait(now)
    assert breaker.allow(now)


@given(
    st.lists(st.tuples(st.sampled_from(["allow", "ill", "well", "forget", "later"]), st.floats(0, 20)), max_size=200),
    st.integers(1, 3),
)
def test_whatever_happens_it_is_never_stuck(moments, probes):
    """After any history, once all attempts have ended and the time is over, healthy probes close it."""
    breaker = BreakerState(FOUR.replace(probes=probes))
    now, out = 0.0, []
    for what, seconds in moments:
        if what == "later":
            now += seconds
        elif what == "allow":
            if ticket := breaker.allow(now):
                out.append(ticket)
        elif out:
            ticket = out.pop(int(seconds) % len(out))
            if what == "forget":
                breaker.forget(ticket)
            else:
                breaker.record(now, sick=what == "ill", ticket=ticket)
    for ticket in out:
        breaker.forget(ticket)
    now += FOUR.open_for
    for _ in range(probes):
        breaker.record(now, sick=False, ticket=breaker.allow(now))
    assert breaker.state == "closed"
    assert breaker.allow(now)


def test_reasons_of_the_request_itself_say_nothing_of_the_server():
    assert not SICK & {
        FailureReason.INVALID_REQUEST,
        FailureReason.NOT_AUTHORISED,
        FailureReason.EMPTY_PROMPT,
        FailureReason.MALFORMED_OUTPUT,
        FailureReason.CANCELLED,
        FailureReason.CIRCUIT_OPEN,
    }


@pytest.mark.parametrize(
    ("setting", "value"), [("failure_ratio", 0), ("failure_ratio", 1.1), ("probes", 0), ("window", 0), ("open_for", 0)]
)
def test_settings_that_mean_nothing_are_refused(setting, value):
    with pytest.raises(SettingsError, match=setting):
        CircuitBreaker(**{setting: value})


@pytest.mark.parametrize("sick", [True, False])
def test_what_nobody_let_pass_moves_a_breaker_that_is_not_closed_in_no_way(sick):
    breaker = opened(at=0.0)
    breaker.record(1.0, sick=sick)
    assert (breaker.state, breaker.wait(1.0)) == ("open", 4.0)
    assert breaker.allow(5.0)  # the probe
    breaker.forget()
    breaker.record(5.0, sick=sick)
    assert breaker.state == "half_open"
    assert breaker.allow(5.0)
    assert not breaker.allow(5.0)


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ({0.0: "sss", 10.0: "s"}, "closed"),  # what is as old as the window has left it
        ({0.0: "sss", 9.9: "s"}, "open"),
        ({100.0: "h", 100.9: "ss", 110.0: "ss"}, "closed"),  # within a tenth of the window: one slice, and one end
        ({100.0: "h", 100.9: "ss", 109.9: "s"}, "open"),
        ({100.0: "h", 101.0: "ss", 110.5: "ss"}, "open"),  # a tenth of the window later: a slice of its own
        ({100.0: "h", 101.0: "ss", 111.0: "ss"}, "closed"),
        ({100.0: "h", 105.0: "ss", 110.5: "ss"}, "open"),
    ],
)
def test_the_window_moves_on_by_tenths(outcomes, state):
    breaker = BreakerState(FOUR)
    for now, some in outcomes.items():
        for outcome in some:
            assert breaker.state == "closed"
            breaker.record(now, sick=outcome == "s")
    assert breaker.state == state


def test_a_ticket_is_a_positive_number_in_every_state_that_gives_one():
    breaker = opened(at=0.0)
    assert BreakerState(FOUR).allow(0.0) >= 1
    assert breaker.allow(1.0) == 0
    assert breaker.allow(5.0) >= 1
    breaker.record(5.0, sick=False)
    assert breaker.allow(5.0) >= 1
