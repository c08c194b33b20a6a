"""How numbers, settings and targets read in a sentence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from llmlab.core.settings import Settings, changed_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmlab.analysis.estimates import Estimate
    from llmlab.analysis.slo import Criterion


def shown(criterion: Criterion, value: float) -> str:
    """Return a criterion's value with its unit: `99.2%`, `3.2 s`, `1.21`; "nothing" where there is no value."""
    if math.isnan(value):
        return "nothing"
    if criterion.unit == "share":
        return f"{_decimals(value)}%"
    number = f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" if criterion.unit == "s" else f"{value:.4g}"
    return f"{number} s" if criterion.unit == "s" else number


def counted(count: int, singular: str) -> str:
    """Return a count with its noun: `1 call`, `1,200 calls`."""
    return f"{count:,} {singular}{'' if count == 1 else 's'}"


def target_text(criterion: Criterion, target: float) -> str:
    """Return a target as a condition: `at least 99%`, `at most 5 s`."""
    return f"at {'least' if criterion.more_is_better else 'most'} {shown(criterion, target)}"


def percent(share: float) -> str:
    """Return a share in percent, with so many digits that what is missing to 100 does not vanish."""
    text = f"{100 * share:.1f}"
    return f"{100 * share:.4g}%" if text == "100.0" and share < 1 else f"{text.removesuffix('.0')}%"


def share_of_calls(share: Estimate) -> str:
    """Return a share of calls with its interval: `99.2% of 500 calls (98% to 99.8%)`."""
    ends = f"{percent(share.low)} to {percent(share.high)}"
    return f"{percent(share.value)} of {counted(share.calls, 'call')} ({ends})"


def settings_in_words(settings: Mapping[str, Any]) -> str:
    """Return settings as they are said, without where they stand: `max_retries 3 and attempt_timeout 5`."""
    return " and ".join(f"{name.rsplit('.', 1)[-1]} {_value_text(value)}" for name, value in settings.items())


def settings_text(settings: Mapping[str, Any]) -> str:
    """Return settings as they are written: `policy.retry.max_retries=2, policy.attempt_timeout=5`."""
    return ", ".join(f"{name}={_value_text(value)}" for name, value in settings.items()) or "the settings as they are"


def condition_text(conditions: Mapping[str, Any]) -> str:
    """Return where something was measured, to be appended: ` where backend.timeout_probability=0.4`."""
    return f" where {settings_text(conditions)}" if conditions else ""


def _decimals(share: float) -> str:
    """Return a share in percent with so many decimals, four at most, that what is missing to 100 shows two digits."""
    missing = 100 * (1 - share)
    digits = min(4, max(2, math.ceil(-math.log10(missing)) + 1)) if missing > 0 else 0
    text = f"{100 * share:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _value_text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "None"
    if isinstance(value, Settings):
        return f"{type(value).__name__}({settings_text(changed_settings(value)) if changed_settings(value) else ''})"
    return f"{value:g}" if isinstance(value, float) else str(value)
