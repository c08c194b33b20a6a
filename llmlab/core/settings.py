"""The base of every settings value, and the words in which a wrong setting is refused.

Settings are frozen pydantic models: they serialise, compare by value and can be swept. pydantic's own messages speak
to pydantic's users; `SettingsError` speaks to ours: which setting, which value, what to do, and the nearest valid
name where a name is wrong. Look next at `policy.py`, the settings of a client.
"""

from __future__ import annotations

import difflib
import math
from inspect import isclass, signature
from typing import TYPE_CHECKING, Any, ClassVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from llmlab.core.display import as_text, card, laid_out
from llmlab.core.hidden import PRIVATE, hidden, may_name_a_fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails


class SettingsError(ValueError):
    """A setting has a wrong name, type or value; the message names it, gives the value and says what is valid."""


class Settings(BaseModel):
    """A frozen, serialisable value whose wrong use raises `SettingsError`.

    Shown, it says what differs from the defaults; in a notebook the defaults can be unfolded.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=False)

    shorthands: ClassVar[tuple[str, ...]] = ()
    """Names that are taken beside the fields, and folded into them."""

    if not TYPE_CHECKING:  # type checkers take the parameters from the fields

        def __init__(self, /, *given: Any, **data: Any) -> None:
            if given:
                raise TypeError(_without_names(type(self)))
            try:
                super().__init__(**data)
            except ValidationError as error:
                raise SettingsError(explain(error, type(self))) from None

        __init__.__signature__ = signature(BaseModel.__init__)  # pydantic builds the class's own upon it

    def __dir__(self) -> Iterable[str]:
        """Complete to what is there to be used: without what pydantic has for its older users."""
        return [name for name in super().__dir__() if name not in _OLD]

    def replace(self, **changes: Any) -> Any:
        """Return a copy with these fields changed, validated again.

        Raises:
            SettingsError: a name, type or value is wrong.
        """
        return type(self)(**{**{name: getattr(self, name) for name in self.model_fields_set}, **changes})

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Return what a repr shows: the settings that differ from their defaults."""
        changed = changed_settings(self)
        return [(name, value) for name, value in super().__repr_args__() if name in changed]

    def __repr__(self) -> str:
        return laid_out(type(self).__name__, self.__repr_args__())

    def __str__(self) -> str:
        return repr(self)

    def _repr_html_(self) -> str:
        rows = list(_rows(self, ""))
        changed = [(name, shown) for name, shown, differs in rows if differs]
        title = type(self).__name__ if changed else f"{type(self).__name__}, all settings at their defaults"
        return card(title, changed, folded=[(name, shown) for name, shown, differs in rows if not differs])


def _rows(value: Settings, path: str) -> Iterator[tuple[str, str, bool]]:
    """Yield each setting by its path: as it is shown, and whether it differs from its default.

    Only what a repr shows is shown: what a class keeps out of it is private.
    """
    shown, changed = dict(value.__repr_args__()), changed_settings(value)
    for name, field in type(value).model_fields.items():
        entry, whole = getattr(value, name), f"{path}{name}"
        if isinstance(entry, Settings):
            kind = field.get_default(call_default_factory=True)
            if name in changed and type(kind) is not type(entry):
                yield whole, type(entry).__name__, True
            yield from ((at, said, differs and name in changed) for at, said, differs in _rows(entry, f"{whole}."))
        elif name in shown:
            yield whole, as_text(shown[name]), True
        elif name not in changed and field.repr:
            yield whole, as_text(entry), False


def by_place(names: Sequence[str], given: Sequence[Any]) -> dict[str, Any]:
    """Return settings that were given without their names, by name.

    Raises:
        TypeError: there are more of them than such as go without.
    """
    if len(given) > len(names):
        raise TypeError(f"at most {len(names)} are given without a name ({', '.join(names)}), got {len(given)}")
    return dict(zip(names, given, strict=False))


def changed_settings(value: Settings) -> dict[str, Any]:
    """Return the settings that differ from their defaults, in the order of the fields."""
    fields = type(value).model_fields
    given = (
        (name, getattr(value, name), field.get_default(call_default_factory=True)) for name, field in fields.items()
    )
    return {name: entry for name, entry, default in given if entry != default}


def setting_names(model: type[BaseModel]) -> list[str]:
    """Return every name that a settings value takes: its fields and its shorthands."""
    return sorted({*model.model_fields, *getattr(model, "shorthands", ())})


def nearest(name: str, valid: Iterable[str], *, called: str = "valid") -> str:
    """Return the complete list of valid names, led by "did you mean 'x'?" where one of them is near."""
    options = sorted(valid)
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.6)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}{called}: {', '.join(options)}"


_OLD = frozenset(
    name for name, made in vars(BaseModel).items() if hasattr(getattr(made, "__func__", made), "__deprecated__")
)
"""Methods that pydantic keeps from its first version, and warns of."""


def _without_names(model: type[BaseModel]) -> str:
    first = next((name for name in model.model_fields if name != "kind"), "...")
    return f"{model.__name__} takes its settings by name: {model.__name__}({first}=...)"


def _further_inside(model: type[BaseModel], name: str) -> str:
    """Return the path of a setting of this name among those that these hold; nothing if there is none."""
    below = [(field, part) for field, info in model.model_fields.items() for part in _parts(info)]
    for _ in range(_DEPTH):
        for path, part in below:
            if name in setting_names(part):
                return f"'{path}.{name}' (of {part.__name__})"
        below = [
            (f"{path}.{field}", inner)
            for path, part in below
            for field, info in part.model_fields.items()
            for inner in _parts(info)
        ]
    return ""


_DEPTH = 2


def _parts(info: FieldInfo) -> list[type[BaseModel]]:
    """Return the kinds of settings that a field may hold; where anything goes, that of its default."""
    kinds = [type(info.get_default(call_default_factory=True)), info.annotation, *get_args(info.annotation)]
    return [kind for kind in dict.fromkeys(kinds) if isclass(kind) and issubclass(kind, Settings)]


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Say in a user's words what is wrong with the settings given to `model`; one line for each mistake."""
    return "\n".join(_explain_one(detail, model) for detail in error.errors())


def _is_private(value: object, loc: tuple[int | str, ...]) -> bool:
    """Whether a value may be the user's own words or a model's."""
    if not isinstance(value, str) or PRIVATE.isdisjoint(loc):
        return False
    return "script" not in loc or not may_name_a_fault(value)


_BOUNDS = {
    "greater_than_equal": ("ge", "{} or more"),
    "greater_than": ("gt", "more than {}"),
    "less_than_equal": ("le", "{} or less"),
    "less_than": ("lt", "less than {}"),
}


_KINDS = {
    "tuple_type": "a list or a tuple",
    "frozen_set_type": "a set or a list",
    "string_too_short": "a text of at least {min_length} character",
    "too_short": "a list of at least {min_length}",
}


def _explain_one(detail: ErrorDetails, model: type[BaseModel]) -> str:
    path = ".".join(str(part) for part in detail["loc"]) or model.__name__
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "union_tag_invalid":
        return f"{path} must be of one of the kinds {context['expected_tags']}, got '{context['tag']}'"
    if kind == "union_tag_not_found":
        return f"{path} must say of which 'kind' it is, got {_shown(value)}"
    if kind == "extra_forbidden":
        valid = setting_names(model)
        inside = _further_inside(model, path)
        near = f"did you mean {inside}? valid: {', '.join(valid)}" if inside else nearest(path, valid)
        return f"{model.__name__} has no setting '{path}'; {near}"
    if kind == "missing":
        return f"{model.__name__} needs '{path}'"
    if kind == "value_error":
        prefix = f"{path}: " if detail["loc"] else ""
        return f"{prefix}{context.get('error', detail['msg'])}"
    got = hidden(value) if _is_private(value, detail["loc"]) else _shown(value)
    return f"{path} must be {_wanted(kind, context, detail['msg'])}, got {got}{_hint(model, detail['loc'])}"


def _wanted(kind: str, context: Mapping[str, Any], message: str) -> str:
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        bound = context[key]
        return words.format(int(bound) if isinstance(bound, float) and bound.is_integer() else bound)
    if kind == "finite_number":
        return "a finite number"
    if kind in {"literal_error", "enum"}:
        return f"one of {context['expected']}"
    if kind in _KINDS:
        return _KINDS[kind].format(**context)
    text = message.removeprefix("Input should be ")
    return text[0].lower() + text[1:]


def _shown(value: object) -> str:
    """Show a value briefly; a long text is named by its length, since it may be a prompt."""
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, str) and len(value) > 60:
        return f"a text of {len(value)} characters"
    if isinstance(value, int) and value.bit_length() > 200:  # thousands of digits could not even be shown
        return f"a whole number of {value.bit_length():,} bits"
    return repr(value) if isinstance(value, int | float | str | None) else kind_of(value)


def kind_of(value: object) -> str:
    """Return of which kind a value is, for errors: "a list", or "the class MockBackend" where an object is meant."""
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"


def _hint(model: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    """Return the advice that the field declares for wrong values, if any."""
    field = model.model_fields.get(str(loc[0])) if loc else None
    extra = field.json_schema_extra if field else None
    return f"; {extra['advice']}" if isinstance(extra, dict) and "advice" in extra else ""
