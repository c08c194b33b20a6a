"""Conditions on a point of a sweep, as data: which points to leave out, and where an axis has its values."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator

from llmlab.core.settings import Settings, SettingsError, by_place
from llmlab.experiments.readable import readable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Operator = Literal["==", "!=", "<", "<=", ">", ">=", "in", "not in"]

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda value, options: value in options,
    "not in": lambda value, options: value not in options,
}


class Condition(Settings):
    """A comparison of a setting, named by its path, with a value or with another setting.

        Condition("policy.retry.max_retries", ">", 0)
        Condition("policy.retry.backoff.jitter", "in", ["full", "equal"])
        Condition("policy.attempt_timeout", "<", other="policy.total_timeout")

    Args:
        setting: the path of any setting, swept or not; its value is the one that it has at the point.
        op: `==`, `!=`, `<`, `<=`, `>`, `>=`, `in` or `not in`.
        value: what it is compared with; for `in` and `not in` a list.
        other: the path of a setting to compare with instead.

    Raises:
        SettingsError: a setting has a wrong name, type or value.
    """

    setting: str
    op: Operator
    value: Any = None
    other: str | None = None

    if not TYPE_CHECKING:

        def __init__(self, setting: Any = None, op: Any = None, *value: Any, **settings: Any) -> None:
            named = {name: entry for name, entry in (("setting", setting), ("op", op)) if entry is not None}
            super().__init__(**named, **by_place(("value",), value), **settings)

    else:

        def __init__(self, setting: str, op: Operator, value: Any = None, *, other: str | None = None) -> None: ...

    def model_post_init(self, _context: Any) -> None:
        """Refuse two things to compare with, and a list that is none."""
        if self.other is not None and "value" in self.model_fields_set:
            raise ValueError("a condition takes value or other, got both; leave one of them out")
        if self.other is None and "value" not in self.model_fields_set:
            raise ValueError("a condition needs a value to compare with, or the path of an other setting")
        if self.op in {"in", "not in"} and not isinstance(self.value, list | tuple):
            raise ValueError(f"'{self.op}' needs a list of values, got {self.value!r}")
        if isinstance(self.value, tuple):
            self.__dict__["value"] = list(self.value)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Yield what a repr shows: prompts are not part of it."""
        for name, value in super().__repr_args__():
            yield name, readable(self.setting, value) if name == "value" else value

    @property
    def settings(self) -> tuple[str, ...]:
        """The paths that it asks for."""
        return (self.setting,) if self.other is None else (self.setting, self.other)

    def holds(self, read: Callable[[str], Any]) -> bool:
        """Whether it holds where `read` gives the value at a path.

        Raises:
            SettingsError: the two have no order, as `None` and a number; or there is no such setting.
        """
        left = read(self.setting)
        right = self.value if self.other is None else read(self.other)
        try:
            return bool(_COMPARE[self.op](left, right))
        except TypeError:
            raise SettingsError(
                f"'{self.setting}' is {readable(self.setting, left)!r}, which '{self.op}' cannot compare with "
                f"{readable(self.other or self.setting, right)!r}; "
                "compare with == or !=, or leave such values out"
            ) from None


def _as_conditions(given: object) -> object:
    return (given,) if isinstance(given, Condition | dict) else given


Conditions = Annotated[
    tuple[Condition, ...],
    BeforeValidator(_as_conditions, json_schema_input_type=tuple[Condition, ...] | Condition),
]
"""Conditions that must all hold; a single one may stand alone."""
