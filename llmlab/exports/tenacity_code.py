"""A policy as tenacity's `Retrying`: tenacity decides when to try again, and leaves timeouts to the client it calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.exports.draft import Draft
from llmlab.exports.wishes import retried

if TYPE_CHECKING:
    from llmlab.core.policy import ClientPolicy
    from llmlab.core.retry import Backoff

_CODE = """\
import tenacity

RETRIED = (ConnectionError, TimeoutError)  # your client's exceptions for: {reasons}

retrying = tenacity.Retrying(  # tenacity.AsyncRetrying takes the same
    stop={stop},
    wait={wait},
    retry=tenacity.retry_if_exception_type(RETRIED),
    reraise=True,
)
# answer = retrying(client.chat, ...)
"""


def python(policy: ClientPolicy) -> Draft:
    """Return a `tenacity.Retrying` with the policy's attempts and waits."""
    retry = policy.retry
    kept = {"retry.max_retries": "", "retry.backoff": "", "retry.retry_on": "name the exceptions in RETRIED"}
    stops = [f"tenacity.stop_after_attempt({retry.max_retries + 1})"]
    if retry.stop_after is not None:
        stops.append(f"tenacity.stop_after_delay({retry.stop_after!r})")
        kept["retry.stop_after"] = ""
    if policy.total_timeout is not None:
        stops.append(f"tenacity.stop_before_delay({policy.total_timeout!r})")
        kept["total_timeout"] = "no retry begins later, but nothing cuts off an attempt"
    if retry.backoff.jitter == "decorrelated":
        kept["retry.backoff"] = "it has no decorrelated jitter; full jitter of the same maximum stands in its place"
    code = _CODE.format(
        reasons=", ".join(sorted(retried(retry))) or "nothing", stop=" | ".join(stops), wait=_wait(retry.backoff)
    )
    return Draft(code, kept)


def _wait(backoff: Backoff) -> str:
    share = backoff.jitter_share
    if backoff.jitter == "additive":
        return (
            f"tenacity.wait_exponential_jitter(multiplier={backoff.base!r}, exp_base={backoff.factor!r}, "
            f"max={backoff.maximum!r}, jitter={backoff.jitter_seconds!r})"
        )
    # Each is a sum of a part that is certain and one that is drawn between 0 and its most.
    certain, drawn = {
        "none": (1.0, 0.0),
        "equal": (0.5, 0.5),
        "proportional": (1.0 - share, share),
        "symmetric": (1.0 - share, 2.0 * share),
    }.get(backoff.jitter, (0.0, 1.0))
    parts = [("wait_exponential", certain), ("wait_random_exponential", drawn)]
    return " + ".join(_exponential(name, backoff, part) for name, part in parts if part) or "tenacity.wait_none()"


def _exponential(name: str, backoff: Backoff, part: float) -> str:
    return (
        f"tenacity.{name}(multiplier={backoff.base * part!r}, exp_base={backoff.factor!r}, "
        f"max={backoff.maximum * part!r})"
    )
