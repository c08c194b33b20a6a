from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.core.retry_after import parse_http_date, parse_retry_after

NOW = datetime(1994, 11, 6, 8, 49, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("007", 7.0),
        ("999999999", 999999999.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 30.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 30.0),
        ("Sun Nov  6 08:49:37 1994", 30.0),
        ("Sun, 06 Nov 1994 09:49:37 +0100", 30.0),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0.0),
    ],
)
def test_seconds_and_all_three_date_formats_are_understood(value, seconds):
    assert parse_retry_after(value, NOW) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "soon",
        "-1",
        "+1",
        "1e3",
        "0x10",
        "nan",
        "inf",
        "1,5",
        "1 2",
        "٣",
        "²",
        "9999999999",
        "9" * 10_000,
        "0." + "1" * 10_000,
        "Sun, 99 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 99999999999999999999 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT" + " " * 5 + "x" * 10_000,
        "Fri, 31 Dec 9999 23:59:59 -2359",
    ],
)
def test_what_cannot_be_read_is_none(value):
    assert parse_retry_after(value, NOW) is None


def test_a_date_is_counted_from_any_zone_and_from_a_time_without_one():
    date = "Sun, 06 Nov 1994 08:49:37 GMT"
    assert parse_retry_after(date, NOW.astimezone(timezone(timedelta(hours=5)))) == 30.0
    assert parse_retry_after(date, NOW.replace(tzinfo=None)) == 30.0


def test_an_http_date_is_in_utc():
    date = parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT")
    assert date == datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)
    assert date.utcoffset() == timedelta(0)


ALMOST_A_DATE = st.from_regex(r"[A-Za-z]{3}, [0-9]{1,4} [A-Za-z]{3} [0-9]{1,9} [0-9:]{1,12} [-+A-Z0-9]{0,6}")


@settings(deadline=None)  # a busy machine is no finding
@given(st.text(max_size=80) | ALMOST_A_DATE)
def test_it_never_raises_and_never_gives_a_negative_wait(value):
    wait = parse_retry_after(value, NOW)
    assert wait is None or wait >= 0


@settings(deadline=None)  # a busy machine is no finding
@given(st.integers(min_value=0, max_value=10**9 - 1))
def test_whole_seconds_come_back_as_they_are(seconds):
    assert parse_retry_after(str(seconds), NOW) == seconds
