"""A policy, an experiment or a sweep as the Python that builds it: nothing is lost, what is a default is not repeated.

    print(as_code(Sweep(base, {"policy.retry.max_retries": [0, 1, 2]})))

The code imports names of llmlab's and calls them, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from llmlab.core.plain_data import plain_data
from llmlab.core.policy import ClientPolicy
from llmlab.core.settings import Settings, SettingsError, changed_settings
from llmlab.experiments.experiment import Experiment
from llmlab.experiments.sweep import Sweep

_WIDTH = 100


def as_code(value: ClientPolicy | Experiment | Sweep) -> str:
    """Return Python code that builds an equal policy, experiment or sweep, to be pasted into a program or a notebook.

    It ends in a variable `policy`, `experiment` or `sweep`. Prompts of a workload are part of it.

    Raises:
        SettingsError: it is none of these, or it holds what no text can hold, such as a backend of your own; the
            message names it.
    """
    names: set[str] = set()
    if isinstance(value, Sweep):
        value.to_dict()
        body = _sweep(value, names)
    elif isinstance(value, Experiment):
        value.to_dict()
        body = f"experiment = {_expression(value, names)}\n"
    elif isinstance(value, ClientPolicy):
        plain_data(value)
        body = f"policy = {_expression(value, names)}\n"
    else:
        raise SettingsError(f"as_code takes a ClientPolicy, an Experiment or a Sweep, got a {type(value).__name__}")
    return f"{_imports(names)}\n\n{body}"


def _imports(names: set[str]) -> str:
    line = f"from llmlab import {', '.join(sorted(names))}"
    if len(line) <= _WIDTH:
        return line
    return "from llmlab import (\n" + "".join(f"    {name},\n" for name in sorted(names)) + ")"


def _sweep(sweep: Sweep, names: set[str]) -> str:
    names.add("Sweep")
    changed = changed_settings(sweep)
    base, grid = changed.pop("base", Experiment()), changed.pop("grid", None)
    arguments = ["base", *([] if grid is None else [_expression(grid, names)])]
    arguments += [f"{name}={_expression(entry, names)}" for name, entry in changed.items()]
    return f"base = {_expression(base, names)}\nsweep = {_call('Sweep', arguments)}\n"


def _expression(value: Any, names: set[str]) -> str:
    """Return an expression of the value, noting the names of llmlab's that it uses."""
    if isinstance(value, Settings):
        names.add(type(value).__name__)
        return _call(type(value).__name__, _keywords(changed_settings(value), names))
    if isinstance(value, Enum):
        names.add(type(value).__name__)
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, tuple) and (fields := getattr(value, "_fields", None)):
        names.add(type(value).__name__)
        return _call(type(value).__name__, _keywords(dict(zip(fields, value, strict=True)), names))
    if isinstance(value, frozenset):
        entries = ", ".join(_expression(each, names) for each in sorted(value))
        return f"frozenset({{{entries}}})" if value else "frozenset()"
    if isinstance(value, Mapping):
        return _enclosed("{", [f"{_text(key)}: {_expression(entry, names)}" for key, entry in value.items()], "}")
    if isinstance(value, list | tuple):
        return _enclosed("[", [_expression(entry, names) for entry in value], "]")
    return _text(value) if isinstance(value, str) else repr(value)


def _text(value: str) -> str:
    """Return a text in double quotes, as formatters write it."""
    quoted = repr(value)
    return f'"{quoted[1:-1]}"' if quoted.startswith("'") and '"' not in value and "\\'" not in quoted else quoted


def _keywords(given: Mapping[str, Any], names: set[str]) -> list[str]:
    return [f"{name}={_expression(entry, names)}" for name, entry in given.items()]


def _call(name: str, arguments: list[str]) -> str:
    return _enclosed(f"{name}(", arguments, ")")


def _enclosed(opening: str, parts: list[str], closing: str) -> str:
    """Return the parts on one line where they fit, else each on its own."""
    line = ", ".join(parts)
    if len(line) <= _WIDTH and "\n" not in line:
        return f"{opening}{line}{closing}"
    indented = "".join(f"    {part.replace(chr(10), chr(10) + '    ')},\n" for part in parts)
    return f"{opening}\n{indented}{closing}"
