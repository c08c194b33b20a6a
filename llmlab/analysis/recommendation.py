"""`Recommendation`: the decision as a value, as a paragraph and as HTML."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from llmlab.analysis.estimates import Estimate
from llmlab.analysis.judging import interval_text
from llmlab.analysis.slo import minimised
from llmlab.analysis.wording import settings_text, target_text
from llmlab.backends.setting_paths import with_setting
from llmlab.core.display import grid
from llmlab.core.policy import ClientPolicy
from llmlab.core.settings import SettingsError

if TYPE_CHECKING:
    import pandas as pd

    from llmlab.analysis.runner_up import RunnerUp
    from llmlab.analysis.slo import SLO, Criterion

Status = Literal["kept", "too_few_calls", "not_kept"]
"""Whether a setting keeps the SLO for certain, none does for certain but one may, or none does."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Recommendation:
    """What to set, and the evidence. Printed, it is a paragraph; in a notebook, a paragraph and a table.

    Attributes:
        settings: the recommended settings by path; where none keeps the SLO for certain, those to look at next.
        place: their row of `points`.
        slo: what has to be kept.
        minimise: what there should be least of.
        confidence: of all intervals together.
        conditions: swept parameters that were not to be chosen; each number is the worst over their values.
        points: one row for each setting: its values, `calls`, each number with its interval (`success_rate`,
            `success_rate_low`, `success_rate_high`, ...), `on_front` (whether it is on the Pareto front over success,
            latency and load), `verdict` ("chosen", "meets", "unclear" or "misses"), the first `reason` against it, and
            `calls_needed`: the further calls under each condition that would tell, 0 where nothing is open.
        runner_up: the next best setting that keeps the SLO, compared with the recommended one; `None` if there is none.
    """

    settings: dict[str, Any]
    place: int
    slo: SLO
    minimise: str
    confidence: float
    conditions: tuple[str, ...]
    points: pd.DataFrame
    runner_up: RunnerUp | None = None

    @property
    def status(self) -> Status:
        """Whether the settings keep the SLO: `kept`, `too_few_calls` (they may) or `not_kept` (none does)."""
        verdicts: dict[str, Status] = {"chosen": "kept", "unclear": "too_few_calls"}
        return verdicts.get(self.points["verdict"].iloc[self.place], "not_kept")

    @property
    def calls_needed(self) -> float:
        """The further calls at these settings that would tell; 0 where it is told, infinite where no number would."""
        return float(self.points["calls_needed"].iloc[self.place])

    def policy(self, base: ClientPolicy | None = None) -> ClientPolicy:
        """Return the policy that the sweep was based on with the settings put in; `None` is the default policy.

        Settings that are not of the policy are left out.

        Raises:
            SettingsError: a setting does not fit into this policy, or of a policy that was swept as a whole only the
                text was stored.
        """
        policy = ClientPolicy() if base is None else base
        for path, value in self.settings.items():
            part, _, name = path.partition(".")
            if path == "policy":
                policy = _whole(value)
            elif part == "policy":
                policy = with_setting(policy, name, value)
        return policy

    def __str__(self) -> str:
        """Say it in a paragraph."""
        opening = {"kept": self._kept, "too_few_calls": self._too_few_calls, "not_kept": self._not_kept}[self.status]()
        return f"{opening} {self._basis()}"

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        rows = self.points.to_numpy(dtype=object).tolist()
        return grid("Recommendation", [str(name) for name in self.points], rows, note=str(self))

    def _kept(self) -> str:
        least, verdicts = minimised(self.minimise), self.points["verdict"]
        kept = int(verdicts.isin(["chosen", "meets"]).sum())
        only = "no other setting does" if kept == 1 else f"of the {kept} that do it has the {_least_of(least)}"
        second = f" {self.runner_up}" if self.runner_up else ""
        used = settings_text(self.settings)
        return f"Use {used}. It keeps the SLO, and {only}: {self._evidence()}.{second}{self._rivals()}"

    def _too_few_calls(self) -> str:
        if math.isfinite(self.calls_needed):
            told = f"{self.calls_needed:,.0f} more calls are needed{' under each condition' if self.conditions else ''}"
        elif any(math.isnan(self._estimate(criterion).value) for criterion in self.slo.targets()):
            told = f"there is {self.points['reason'].iloc[self.place]}"
        else:
            told = "it is so near to the limit that no number of calls tells; ask for a little less"
        named = settings_text(self.settings)
        return f"Too few calls to tell: {named} may keep the SLO, but {told}: {self._evidence()}."

    def _not_kept(self) -> str:
        return (
            f"No setting keeps the SLO. The nearest is {settings_text(self.settings)}, whose "
            f"{self.points['reason'].iloc[self.place]}. All that is asked for: {self._evidence()}."
        )

    def _evidence(self) -> str:
        return "; ".join(
            f"{criterion.label} {interval_text(criterion, self._estimate(criterion))}, "
            f"{target_text(criterion, target)} asked for"
            for criterion, target in self.slo.targets().items()
        )

    def _rivals(self) -> str:
        """Say what else might be better, if only it were certain."""
        least = minimised(self.minimise)
        sign = -1.0 if least.more_is_better else 1.0
        costs = sign * self.points[least.column]
        rivals = self.points[(self.points["verdict"] == "unclear") & (costs < costs.iloc[self.place])]
        if rivals.empty:
            return ""
        count, needed = len(rivals), rivals["calls_needed"].min()
        told = f": {needed:,.0f} more calls would tell of the first" if math.isfinite(needed) else ""
        return f" {count} other setting{'s' if count > 1 else ''} may keep it with less{told}."

    def _basis(self) -> str:
        verdicts = self.points["verdict"]
        words = {"kept": ["chosen", "meets"], "open": ["unclear"], "missed": ["misses"]}
        counts = ", ".join(f"{word} {int(verdicts.isin(those).sum())}" for word, those in words.items())
        settings = f"{len(verdicts)} setting{'' if len(verdicts) == 1 else 's'}"
        where = f"; each number is the worst over {', '.join(self.conditions)}" if self.conditions else ""
        return (
            f"({self.points['calls'].sum():,} calls, {settings}: {counts}; "
            f"{self.confidence:.0%} confidence for all intervals together{where}.)"
        )

    def _estimate(self, criterion: Criterion) -> Estimate:
        row = self.points.iloc[self.place]
        value, low, high = (float(row[f"{criterion.column}{end}"]) for end in ("", "_low", "_high"))
        return Estimate(value, low, high, int(row["calls"]), math.nan)


def _whole(value: Any) -> ClientPolicy:
    if not isinstance(value, ClientPolicy):
        raise SettingsError(f"of whole policies a store has the texts only; take {value} from what was swept")
    return value


def _least_of(criterion: Criterion) -> str:
    return f"highest {criterion.label}" if criterion.more_is_better else f"lowest {criterion.label}"
