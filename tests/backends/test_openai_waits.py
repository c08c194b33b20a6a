import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab.backends.openai_waits import parse_duration, should_retry, wait_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("20ms", 0.02),
        ("1h2m3.5s", 3723.5),
        ("2m59.56s", 179.56),
        ("500us", 0.0005),
        ("500µs", 0.0005),
        ("1d", 86400.0),
        ("17", 17.0),
        ("0.5", 0.5),
        (" 1s ", 1.0),
        ("", None),
        ("soon", None),
        ("-1s", None),
        ("1s later", None),
        ("1 s", None),
        ("٣s", None),
        ("1795371289123", None),
        ("9" * 1_000_000, None),
        ("9" * 1_000_000 + "s", None),
        ("1s" * 1_000_000, None),
    ],
)
def test_durations_are_read_as_go_writes_them(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)


@given(st.text("0123456789.hmsuµn ", max_size=20))
def test_any_duration_is_read_or_none(text):
    seconds = parse_duration(text)
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after-ms": "9" * 1_000_000, "retry-after": "7"}, 7.0),
        ({"retry-after-ms": "-1"}, None),
        ({"date": "Sun, 06 Nov 1994 08:49:07 GMT", "retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}, 30.0),
        ({"retry-after": "0", "x-ratelimit-reset-requests": "9s"}, 0.0),
        ({"x-ratelimit-reset-requests": "1s"}, 1.0),
        ({"x-ratelimit-reset-tokens": "6m0s"}, 360.0),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}, 360.0),
        ({"x-ratelimit-reset-requests": "nonsense", "x-ratelimit-reset-tokens": "20ms"}, 0.02),
    ],
)
def test_the_most_exact_wait_is_taken(headers, seconds):
    assert wait_of(headers, rate_limited=True) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("requests_left", "tokens_left", "seconds"),
    [
        ("0", "150000", 1.0),
        ("59", "0", 360.0),
        ("59", "3", 360.0),
        ("0", "0", 360.0),
        ("0", "?", 360.0),
        ("?", "5", 360.0),
    ],
)
def test_only_the_limit_that_may_have_been_met_is_waited_for(requests_left, tokens_left, seconds):
    headers = {
        "x-ratelimit-remaining-requests": requests_left,
        "x-ratelimit-remaining-tokens": tokens_left,
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-reset-tokens": "6m0s",
    }
    assert wait_of(headers, rate_limited=True) == seconds


def test_a_limit_that_was_not_met_is_not_waited_for():
    assert wait_of({"x-ratelimit-reset-requests": "1s"}, rate_limited=False) is None
    assert wait_of({"retry-after": "7"}, rate_limited=False) == 7.0


@pytest.mark.parametrize(("said", "retry"), [("true", True), ("FALSE", False), ("maybe", None), ("", None)])
def test_whether_it_should_be_tried_again(said, retry):
    assert should_retry({"x-should-retry": said}) is retry
    assert should_retry({}) is None
