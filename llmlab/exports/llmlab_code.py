"""A policy as llmlab's own settings, in Python and in TOML: nothing is lost, and what is a default is not repeated."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from llmlab.core.plain_data import plain_data
from llmlab.core.settings import Settings, changed_settings
from llmlab.experiments.documents import toml_text
from llmlab.exports.draft import Draft
from llmlab.exports.wishes import wishes

if TYPE_CHECKING:
    from llmlab.core.policy import ClientPolicy

_WIDTH = 100


def python(policy: ClientPolicy) -> Draft:
    """Return Python code that builds the policy."""
    names: set[str] = set()
    expression = _expression(policy, names)
    code = f"from llmlab import {', '.join(sorted(names))}\n\npolicy = {expression}\n"
    return Draft(code, dict.fromkeys(wishes(policy), ""))


def toml(policy: ClientPolicy) -> Draft:
    """Return the policy as the part of a TOML file that `Sweep.load` reads."""
    data = {"base": {"policy": plain_data(policy, complete=False)}}
    return Draft(toml_text(data), dict.fromkeys(wishes(policy), ""))


def _expression(value: Any, names: set[str]) -> str:
    """Return an expression of the value, noting the names of llmlab's that it uses."""
    if isinstance(value, Settings):
        names.add(type(value).__name__)
        return _construction(value, names)
    if isinstance(value, Enum):
        names.add(type(value).__name__)
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, frozenset):
        entries = ", ".join(_expression(each, names) for each in sorted(value))
        return f"frozenset({{{entries}}})" if value else "frozenset()"
    return repr(value)


def _construction(value: Settings, names: set[str]) -> str:
    arguments = [f"{name}={_expression(entry, names)}" for name, entry in changed_settings(value).items()]
    call, line = type(value).__name__, ", ".join(arguments)
    if len(line) <= _WIDTH and "\n" not in line:
        return f"{call}({line})"
    indented = "".join(f"    {argument.replace(chr(10), chr(10) + '    ')},\n" for argument in arguments)
    return f"{call}(\n{indented})"
