"""Points drawn from ranges: independently, by a Latin hypercube, or along a Sobol sequence.

Where a grid over many settings grows too large, a sample covers all of them with as many points as one can afford. The
designs are those of `scipy.stats.qmc` (Owen-scrambled Sobol; McKay, Beckman and Conover 1979 for the hypercube). More
points of the same Sobol or random sample begin with the ones there were, so what has been computed can be kept; every
Latin hypercube is another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from llmlab.core.settings import Settings, by_place
from llmlab.experiments.axes import MAX_VALUES, Ranges, axes_without_prompts, by_path_data

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Samples(Settings):
    """Points drawn from a range of each of several settings.

        Samples("sobol", 64, {"workload.rate": LogRange(1, 50), "policy.retry.max_retries": [0, 1, 2]})

    Args:
        method: `sobol` (evenest; the count must be a power of 2), `latin_hypercube` (each setting's range is cut into
            `count` parts, and each part is met once) or `random` (independent draws).
        count: how many points are drawn; a sweep takes one that lists and whole numbers make equal to an earlier one
            only once.
        over: by its path, what each setting is drawn from: a `LinearRange` or `LogRange` without `num`, or a list,
            whose values are equally probable.
        seed: fixes the draw.

    Raises:
        SettingsError: a setting has a wrong name, type or value.
    """

    method: Literal["sobol", "latin_hypercube", "random"] = "sobol"
    count: int = Field(ge=1, le=MAX_VALUES)
    over: Ranges = Field(min_length=1)
    seed: int = Field(default=0, ge=0)

    if not TYPE_CHECKING:

        def __init__(self, *given: Any, **settings: Any) -> None:
            super().__init__(**by_place(("method", "count", "over"), given), **settings)

    else:

        def __init__(
            self,
            method: Literal["sobol", "latin_hypercube", "random"] = "sobol",
            count: int = ...,
            over: Mapping[str, Any] = ...,
            *,
            seed: int = 0,
        ) -> None: ...

    def model_post_init(self, _context: Any) -> None:
        """Refuse a number of points at which a Sobol sequence loses its balance, and an empty list."""
        if self.method == "sobol" and self.count & (self.count - 1):
            lower = 1 << (self.count.bit_length() - 1)
            raise ValueError(
                f"count must be a power of 2 for a Sobol sample, got {self.count}; take {lower} or {2 * lower}, "
                "or method 'latin_hypercube'"
            )
        for path, axis in self.over.items():
            if axis == ():
                raise ValueError(f"over.{path} has no values; give at least one")

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Yield what a repr shows: prompts are not part of it."""
        for name, value in super().__repr_args__():
            yield name, axes_without_prompts(value) if name == "over" else value

    def to_dict(self) -> dict[str, Any]:
        """Return the sample as plain data, which rebuild it.

        Raises:
            SettingsError: a value of a list has no such form.
        """
        over = by_path_data(self.over, "samples.over")
        return {"method": self.method, "count": self.count, "over": over, "seed": self.seed}

    def points(self) -> list[dict[str, Any]]:
        """Return the points: for each a value by path. The same seed gives the same points."""
        rows = self._uniforms().tolist()
        return [{path: _value(axis, u) for (path, axis), u in zip(self.over.items(), row, strict=True)} for row in rows]

    def _uniforms(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        from scipy.stats import qmc  # noqa: PLC0415 - late: half a second, which few sweeps need

        chance, dimensions = np.random.default_rng(self.seed), len(self.over)
        if self.method == "random":
            return chance.random((self.count, dimensions))
        engine = qmc.Sobol if self.method == "sobol" else qmc.LatinHypercube
        return engine(dimensions, seed=chance).random(self.count)


def _value(axis: Any, u: float) -> Any:
    return axis[min(int(u * len(axis)), len(axis) - 1)] if isinstance(axis, tuple) else axis.at(u)
