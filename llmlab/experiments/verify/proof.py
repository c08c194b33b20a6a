"""All cases by name, and how they are run: what `llmlab verify` and the notebook `verify` show."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING

import pandas as pd
from tqdm.auto import tqdm

from llmlab.core.settings import SettingsError, nearest
from llmlab.experiments.verify import jitter, networks, policies, queues, retries, storms, tails
from llmlab.experiments.verify.case import Case, Check

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CASES: Mapping[str, Case] = MappingProxyType(
    {
        "independent retries": retries.independent_retries,
        "per-attempt timeout trap": retries.timeout_trap,
        "openai timeout": policies.openai_timeout,
        "layered retries": retries.layers_multiply,
        "M/M/c": queues.erlang,
        "M/M/c/K": queues.blocking,
        "M/G/1": queues.general_service,
        "LIFO queue": queues.last_in_first_out,
        "processor sharing": queues.processor_sharing,
        "Little's law": queues.littles_law,
        "closed loop": networks.closed_loop,
        "machine repair": networks.machine_repair,
        "rate limit": policies.release_times,
        "AWS retry quota": policies.retry_quota,
        "hedging": policies.hedged_tail,
        "retry storms": storms.storms,
        "jitter": jitter.contention,
        "coordinated omission": tails.coordinated_omission,
        "intervals": tails.intervals,
    }
)
"""The cases by name, from the simple to the involved."""
COLUMNS = ("case", "quantity", "expected", "measured", "tolerance", "holds", "source")


def verify(size: float = 1.0, cases: str | Sequence[str] | None = None, *, progress: bool = True) -> pd.DataFrame:
    """Check the simulation against known theory; one row per quantity, in the columns of `COLUMNS`.

    A check holds if measured and expected differ by no more than the tolerance, which is the sampling error over
    independent replicates, or rounding where chance has no part.

    Args:
        size: 1.0 is the full proof, about two minutes; less makes fewer calls, and so wider tolerances.
        cases: the name or the names of the cases to run, of `CASES`; `None` is all. Upper case, hyphens, underscores
            and slashes do not matter.
        progress: whether to show a progress bar.

    Raises:
        SettingsError: there is no case of a name, or the size is not above 0 and at most 1.
    """
    if not 0 < size <= 1:
        raise SettingsError(f"size must be above 0 and at most 1, got {size:g}")
    made: list[Check] = []
    with tqdm(case_names(cases), disable=not progress, unit="case", dynamic_ncols=True, delay=0.5) as bar:
        for name in bar:
            bar.set_postfix_str(name)
            made += CASES[name](size)
    return pd.DataFrame([[getattr(check, column) for column in COLUMNS] for check in made], columns=list(COLUMNS))


def case_names(asked: str | Sequence[str] | None = None) -> list[str]:
    """Return the names of the cases that are asked for, as `CASES` spells them, in the order of `CASES`.

    Raises:
        SettingsError: there is no such case; the message lists those that there are.
    """
    if asked is None:
        return list(CASES)
    asked = [asked] if isinstance(asked, str) else asked
    known = {_plain(name): name for name in CASES}
    for name in asked:
        if _plain(name) not in known:
            raise SettingsError(f"there is no case {name!r}; {nearest(name, CASES)}")
    wanted = {_plain(name) for name in asked}
    return [name for plain, name in known.items() if plain in wanted]


def _plain(name: str) -> str:
    return " ".join(re.sub(r"[-_/]", " ", name.lower()).split())
