"""Policies as arguments of the openai and anthropic SDKs, and of litellm's Router.

These clients let one choose how often to retry and how long to wait for the server; how long they wait between attempts
and what they retry is fixed, and stands in `core/presets.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.core.presets import preset
from llmlab.exports.draft import Draft
from llmlab.exports.wishes import RetryAfter, backoff_text, retried

if TYPE_CHECKING:
    from llmlab.core.policy import ClientPolicy

_SILENCES = ("timeouts.first_byte", "timeouts.between_chunks", "attempt_timeout")


def openai(policy: ClientPolicy) -> Draft:
    """Return the arguments of `openai.OpenAI` and `openai.AsyncOpenAI`."""
    return _generated_sdk(policy, "openai", "OpenAI")


def anthropic(policy: ClientPolicy) -> Draft:
    """Return the arguments of `anthropic.Anthropic` and `anthropic.AsyncAnthropic`."""
    return _generated_sdk(policy, "anthropic", "Anthropic")


def litellm(policy: ClientPolicy) -> Draft:
    """Return the arguments of `litellm.Router`."""
    kept = {"retry.max_retries": "", **_fixed_retries(policy, "litellm")}
    lines = [
        'model_list=[{"model_name": "main", "litellm_params": {"model": "openai/your-model"}}],  # your own',
        f"num_retries={policy.retry.max_retries},",
    ]
    silence = _silence(policy)
    if silence is not None:
        lines.append(f"timeout={silence!r},")
        kept |= dict.fromkeys(_timeouts(policy), f"`timeout={silence:g}` stands for all timeouts")
    if policy.max_concurrency is not None:
        lines.append(f"default_max_parallel_requests={policy.max_concurrency},")
        kept["max_concurrency"] = "for each deployment by itself, and of asynchronous calls only"
    lines.append("disable_cooldowns=True,  # else it leaves a deployment alone for a while after failures")
    return Draft(_call("litellm", "router = litellm.Router", lines), kept)


def _generated_sdk(policy: ClientPolicy, package: str, client: str) -> Draft:
    timeouts, silence = policy.timeouts, _silence(policy)
    connect = _least(timeouts.connect, policy.attempt_timeout)
    bounds = f"connect={connect!r}, read={silence!r}, write={silence!r}, pool={timeouts.pool!r}"
    lines = [f"max_retries={policy.retry.max_retries},", f"timeout={package}.Timeout({bounds}),"]
    kept = {"retry.max_retries": "", "timeouts.connect": "", "timeouts.pool": "", **_fixed_retries(policy, package)}
    for path in _SILENCES:
        value = policy.attempt_timeout if path == "attempt_timeout" else getattr(timeouts, path.split(".")[1])
        if path == "attempt_timeout":
            kept[path] = f"`read={silence!r}` bounds each silence of the server, not the attempt as a whole"
        elif value == silence:
            kept[path] = ""
        else:
            kept[path] = f"`read={silence!r}` bounds every silence, the first and the others"
    return Draft(_call(package, f"client = {package}.{client}", lines), kept)


def _fixed_retries(policy: ClientPolicy, package: str) -> dict[str, str]:
    """Return how a client's own retries differ from the policy's, setting by setting."""
    own, asked = preset(package).retry, policy.retry
    kept = {
        "retry.backoff": "" if own.backoff == asked.backoff else f"its own is fixed: {backoff_text(preset(package))}",
        "retry.retry_after": "",
    }
    if RetryAfter.of(own) != RetryAfter.of(asked):
        kept["retry.retry_after"] = f"its own way is fixed: {RetryAfter.of(own)}"
    more, fewer = retried(own) - retried(asked), retried(asked) - retried(own)
    parts = [f"it retries {', '.join(sorted(more))} as well"] if more else []
    parts += [f"it does not retry {', '.join(sorted(fewer))}"] if fewer else []
    return {**kept, "retry.retry_on": "; ".join(parts)}


def _silence(policy: ClientPolicy) -> float | None:
    """Return the longest that the server may say nothing, which is all that a read timeout can hold."""
    return _least(policy.attempt_timeout, policy.timeouts.first_byte, policy.timeouts.between_chunks)


def _timeouts(policy: ClientPolicy) -> list[str]:
    return [*_SILENCES, *(f"timeouts.{name}" for name in ("connect", "pool") if getattr(policy.timeouts, name))]


def _least(*bounds: float | None) -> float | None:
    given = [bound for bound in bounds if bound is not None]
    return min(given) if given else None


def _call(package: str, call: str, lines: list[str]) -> str:
    return "\n".join([f"import {package}", "", f"{call}(", *(f"    {line}" for line in lines), ")", ""])
