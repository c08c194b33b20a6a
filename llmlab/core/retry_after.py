"""Read a `Retry-After` header: a number of seconds or an HTTP date (RFC 9110, section 10.2.3).

Pure: the caller says what time it is, so a date gives the same wait in a test, in a replay and under virtual time.
What cannot be read is `None` and never an exception, for the header comes from whoever answered. Who obeys the wait,
and when it is too long, is decided in `retry.py`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# The standard knows whole seconds only; fractions are sent all the same (by API gateways, for example) and mean what
# they say. Nine digits are 31 years: a longer number is no wait, and unbounded digits would take unbounded time.
_SECONDS = re.compile(r"\d{1,9}(?:\.\d{1,9})?", re.ASCII)
_LONGEST_DATE = 64


def parse_retry_after(value: str, now: datetime) -> float | None:
    """Return how many seconds the server asks to wait, counted from `now`; `None` where the text cannot be read.

    Args:
        value: the header's value: `"120"` or `"Fri, 31 Dec 1999 23:59:59 GMT"`, also in the two older date formats.
        now: the time to count a date from, best the answer's own `Date` (`parse_http_date`), so that a clock that goes
            wrong here or there does not matter. Without a time zone it is taken as UTC.

    Returns:
        Seconds, 0 or more; 0 for a date that has passed.
    """
    text = value.strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    date = parse_http_date(text)
    return None if date is None else max(0.0, (date - _in_utc(now)).total_seconds())


def parse_http_date(value: str) -> datetime | None:
    """Return the time that an HTTP date names, in UTC; `None` where it cannot be read.

    All three formats of RFC 9110, section 5.6.7 are understood.
    """
    text = value.strip()
    if len(text) > _LONGEST_DATE or not text.isascii():
        return None
    try:
        return _in_utc(parsedate_to_datetime(text))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
