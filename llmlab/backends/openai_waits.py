"""How long an OpenAI-compatible server asks to wait, and whether it wants to be asked again: read from its headers.

`retry-after-ms` is the most exact, `retry-after` the standard, and `x-ratelimit-reset-requests` and `-tokens` say when
the limit is whole again. What cannot be read is `None` and never an exception. Who obeys is decided in `core/retry.py`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from llmlab.backends.http_transport import retry_after

if TYPE_CHECKING:
    from collections.abc import Mapping

# Nine digits are 31 years in seconds, and 11 days in milliseconds: a longer number is no wait, and unbounded digits
# would take unbounded time.
_NUMBER = r"\d{1,9}(?:\.\d{1,9})?"
_MILLISECONDS = re.compile(_NUMBER, re.ASCII)
# As Go writes durations: "6m0s", "20ms", "1h2m3.5s". A bare number is seconds.
_DURATION = re.compile(rf"(?:{_NUMBER}(?:ms|us|µs|ns|d|h|m|s)){{1,6}}|{_NUMBER}", re.ASCII)
_PART = re.compile(rf"({_NUMBER})([a-zµ]*)", re.ASCII)
_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def wait_of(headers: Mapping[str, str], *, rate_limited: bool) -> float | None:
    """Return the wait that an answer asks for, in seconds, or `None`.

    Args:
        headers: the answer's, to be looked up in lower case.
        rate_limited: whether a limit was met; only then does it matter when it is whole again.
    """
    milliseconds = headers.get("retry-after-ms", "").strip()
    if _MILLISECONDS.fullmatch(milliseconds):
        return float(milliseconds) / 1000.0
    asked = retry_after(headers)
    if asked is not None or not rate_limited:
        return asked
    return _until_reset(headers)


def should_retry(headers: Mapping[str, str]) -> bool | None:
    """Return what `x-should-retry` says, `None` where it says nothing."""
    return {"true": True, "false": False}.get(headers.get("x-should-retry", "").strip().lower())


def parse_duration(text: str) -> float | None:
    """Return the seconds of a text like "6m0s" or "20ms"; `None` where it cannot be read."""
    text = text.strip()
    if not _DURATION.fullmatch(text):
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))


def _until_reset(headers: Mapping[str, str]) -> float | None:
    """Return when the limit that was met is whole again.

    A request costs one request, so that limit was not met while any are left. It costs nobody knows how many tokens, so
    that limit may have been met with some left, but was not where the other is known to have been.
    """
    requests_left, tokens_left = _left(headers, "requests"), _left(headers, "tokens")
    resets = []
    if not requests_left:
        resets.append(parse_duration(headers.get("x-ratelimit-reset-requests", "")))
    if not (tokens_left and requests_left == 0):
        resets.append(parse_duration(headers.get("x-ratelimit-reset-tokens", "")))
    return max((reset for reset in resets if reset is not None), default=None)


def _left(headers: Mapping[str, str], what: str) -> int | None:
    text = headers.get(f"x-ratelimit-remaining-{what}", "").strip()
    return int(text) if re.fullmatch(r"\d{1,12}", text, re.ASCII) else None
