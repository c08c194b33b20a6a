"""What a summary is made of, so that it can be merged: sums for each run and layer, and sketches of its latencies.

A sweep too large for its events keeps these. Look next at `summaries.py`, which makes the summary of them, and at
`sketches.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from llmlab.analysis.groups import Groups
from llmlab.analysis.sketches import buckets
from llmlab.core.events import Column
from llmlab.core.vocabulary import Fate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from llmlab.analysis.groups import By

_LAYER = Column("layer", "word", "", "which client, where clients are stacked")
CALL_TOTALS: tuple[Column, ...] = (
    Column("calls", "int", "calls", "calls"),
    Column("answered", "int", "calls", "calls that were answered"),
    *(Column(f"fate_{fate}", "int", "calls", f"calls with the fate `{fate}`") for fate in Fate),
    Column("attempts", "int", "attempts", "attempts that the calls made"),
    *(
        Column(f"{name}_s", "float", "s", f"time {doing}, added up over calls")
        for name, doing in (
            ("slot_wait", "waiting for a slot"),
            ("rate_wait", "waiting for the rate limit"),
            ("backoff", "in backoff"),
            ("server", "in attempts along the critical path"),
        )
    ),
    Column("answer_tokens", "float", "tokens", "tokens of the answers"),
)
"""What is added up over calls."""

ATTEMPT_TOTALS: tuple[Column, ...] = (
    Column("made_attempts", "float", "attempts", "attempts"),
    Column("failed_attempts", "float", "attempts", "attempts that were not answered"),
    Column("input_tokens", "float", "tokens", "tokens read"),
    Column("output_tokens", "float", "tokens", "tokens written"),
    Column("wasted_tokens", "float", "tokens", "of these, both kinds, the tokens of failed attempts"),
    Column("attempts_s", "float", "s", "time in attempts, added up"),
    Column("wasted_s", "float", "s", "of this, the time in failed attempts"),
)
"""What is added up over attempts; NaN where they were not kept."""

TOTALS_COLUMNS: tuple[Column, ...] = (
    _LAYER,
    *CALL_TOTALS,
    Column("arrived_at_s", "float", "s", "first arrival"),
    Column("ended_at_s", "float", "s", "last end"),
    *ATTEMPT_TOTALS,
)
"""A row for each run and layer."""

MEASURES = ("answered_latency", "failed_latency", "time_to_first_token", "generation_speed")
SKETCH_COLUMNS: tuple[Column, ...] = (
    _LAYER,
    Column("measure", "word", "", "of what values", words=MEASURES),
    Column("bucket", "int", "", "see `sketches.py`"),
    Column("count", "int", "", "how many values fell into it"),
)
"""A row for each run, layer, measure and bucket that holds a value."""


def call_totals(calls: pd.DataFrame, groups: Groups) -> dict[str, Any]:
    """Return `CALL_TOTALS` of each group of calls."""
    fates = groups.counts_of_words(calls["fate"])
    sums = ("attempts", "slot_wait_s", "rate_wait_s", "backoff_s", "server_s")
    return {
        "calls": groups.counts(),
        "answered": groups.sums(calls["answered"]),
        **{f"fate_{fate}": fates[:, code] for code, fate in enumerate(Fate)},
        **{name: groups.sums(calls[name]) for name in sums},
        "answer_tokens": groups.sums(calls["output_tokens"].where(calls["answered"]).fillna(0.0)),
    }


def attempt_totals(attempts: pd.DataFrame, groups: Groups) -> dict[str, Any]:
    """Return `ATTEMPT_TOTALS` of the attempts of each group of calls."""
    codes = groups.codes_of(attempts)
    own, attempts = codes[codes >= 0], attempts[codes >= 0]
    lost = ~attempts["answered"].to_numpy()
    read, written = (attempts[name].fillna(0.0).to_numpy() for name in ("input_tokens", "output_tokens"))
    seconds = attempts["latency_s"].to_numpy()
    weights = (np.ones(len(own)), lost, read, written, (read + written) * lost, seconds, seconds * lost)
    sums = [np.bincount(own, weights=weight, minlength=len(groups)) for weight in weights]
    return {column.name: total for column, total in zip(ATTEMPT_TOTALS, sums, strict=True)}


def generation_speeds(attempts: pd.DataFrame) -> pd.Series[float]:
    """Return the speed at which each answered attempt's tokens came, in tokens per second; NaN where nothing tells."""
    writing = attempts["latency_s"] - attempts["time_to_first_token_s"]
    return (attempts["output_tokens"] / writing).where(attempts["answered"] & (writing > 0))


def totals_frame(calls: pd.DataFrame, attempts: pd.DataFrame | None, by: By) -> pd.DataFrame:
    """Return `TOTALS_COLUMNS` for each group; `by` is to tell runs and layers apart."""
    groups = Groups(calls, by)
    first, last = (
        calls.groupby(groups.codes)[name].agg(how).to_numpy()
        for name, how in (("arrived_at_s", "min"), ("ended_at_s", "max"))
    )
    nothing = {column.name: np.full(len(groups), np.nan) for column in ATTEMPT_TOTALS}
    return groups.frame(
        {
            **call_totals(calls, groups),
            "arrived_at_s": first,
            "ended_at_s": last,
            **(nothing if attempts is None else attempt_totals(attempts, groups)),
        }
    )


def sketches_frame(calls: pd.DataFrame, attempts: pd.DataFrame | None, by: Sequence[str]) -> pd.DataFrame:
    """Return `SKETCH_COLUMNS` for each group; `by` is to tell runs and layers apart."""
    parts = []
    for measure, (frame, values) in zip(MEASURES, _measured(calls, attempts), strict=False):
        present = values.notna()
        kept = frame.loc[present, list(by)].assign(
            measure=pd.Categorical([measure]).repeat(int(present.sum())),
            bucket=buckets(values[present].to_numpy()),
        )
        parts.append(kept.groupby([*by, "measure", "bucket"], observed=True).size().reset_index(name="count"))
    return pd.concat(parts, ignore_index=True)


def _measured(calls: pd.DataFrame, attempts: pd.DataFrame | None) -> Iterator[tuple[pd.DataFrame, pd.Series[float]]]:
    """Yield the frame and the values of each of `MEASURES`, in order."""
    answered = calls["answered"]
    yield calls, calls["latency_s"].where(answered)
    yield calls, calls["latency_s"].where(~answered)
    yield calls, calls["time_to_first_token_s"].where(answered)
    if attempts is not None:
        yield attempts, generation_speeds(attempts)
