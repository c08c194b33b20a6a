"""A policy, an experiment or a sweep as the Python that builds it: nothing is lost, what is a default is not repeated.

    print(as_code(Sweep(base, {"policy.retry.max_retries": [0, 1, 2]})))

The code imports names of llmlab's and calls them, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from llmlab.backends.layer import Layer
from llmlab.core.backend import Answer, AttemptFailure
from llmlab.core.hidden import PRIVATE
from llmlab.core.plain_data import plain_data
from llmlab.core.policy import ClientPolicy
from llmlab.core.settings import Settings, SettingsError, changed_settings
from llmlab.experiments.experiment import Experiment
from llmlab.experiments.sweep import Sweep
from llmlab.experiments.workload import OpenLoop

_WIDTH = 100
_DECIDED_BY_OTHERS = {Layer: ("name",), OpenLoop: ("calls",)}
"""Settings that are not at their default where they are not given: a fallback or a duration decides."""


def as_code(value: ClientPolicy | Experiment | Sweep, *, prompts: bool = True) -> str:
    """Return Python code that builds an equal policy, experiment or sweep, to be pasted into a program or a notebook.

    It ends in a variable `policy`, `experiment` or `sweep`.

    Args:
        value: what to build.
        prompts: whether the texts of requests and of answers are part of it; else `...` stands in their place, which
            no experiment takes.

    Raises:
        SettingsError: it is none of these, or it holds what no text can hold, such as a backend of your own; the
            message names it.
    """
    write = _Writer(prompts=prompts)
    if isinstance(value, Sweep):
        value.to_dict()
        body = write.sweep(value)
    elif isinstance(value, Experiment):
        value.to_dict()
        body = f"experiment = {write.expression(value)}\n"
    elif isinstance(value, ClientPolicy):
        plain_data(value)
        body = f"policy = {write.expression(value)}\n"
    else:
        raise SettingsError(f"as_code takes a ClientPolicy, an Experiment or a Sweep, got a {type(value).__name__}")
    return f"{_imports(write.names)}\n\n{body}"


def _imports(names: set[str]) -> str:
    line = f"from llmlab import {', '.join(sorted(names))}"
    if len(line) <= _WIDTH:
        return line
    return "from llmlab import (\n" + "".join(f"    {name},\n" for name in sorted(names)) + ")"


class _Writer:
    """Writes values as expressions, and notes the names of llmlab's that these use."""

    def __init__(self, *, prompts: bool) -> None:
        self.names: set[str] = set()
        self._prompts = prompts

    def sweep(self, sweep: Sweep) -> str:
        self.names.add("Sweep")
        changed = changed_settings(sweep)
        base, grid = changed.pop("base", Experiment()), changed.pop("grid", None)
        arguments = ["base", *([] if grid is None else [self.expression(grid)])]
        arguments += [f"{name}={self.expression(entry)}" for name, entry in changed.items()]
        return f"base = {self.expression(base)}\nsweep = {_call('Sweep', arguments)}\n"

    def expression(self, value: Any) -> str:
        if isinstance(value, Settings):
            self.names.add(type(value).__name__)
            given = value.model_fields_set.intersection(_DECIDED_BY_OTHERS.get(type(value), ()))
            settings = changed_settings(value) | {name: getattr(value, name) for name in sorted(given)}
            return _call(type(value).__name__, self._keywords(settings))
        if isinstance(value, Enum):
            self.names.add(type(value).__name__)
            return f"{type(value).__name__}.{value.name}"
        if isinstance(value, tuple) and (fields := getattr(value, "_fields", None)):
            self.names.add(type(value).__name__)
            return _call(type(value).__name__, self._keywords(dict(zip(fields, value, strict=True))))
        if isinstance(value, frozenset):
            entries = ", ".join(self.expression(each) for each in sorted(value))
            return f"frozenset({{{entries}}})" if value else "frozenset()"
        if isinstance(value, Mapping):
            entries_of = (f"{_text(key)}: {self._entry(key, entry)}" for key, entry in value.items())
            return _enclosed("{", list(entries_of), "}")
        if isinstance(value, list | tuple):
            return _enclosed("[", [self.expression(entry) for entry in value], "]")
        return _text(value) if isinstance(value, str) else repr(value)

    def _keywords(self, given: Mapping[str, Any]) -> list[str]:
        return [f"{name}={self._entry(name, entry)}" for name, entry in given.items()]

    def _entry(self, name: str, value: Any) -> str:
        """Return what stands under a name, or in a sweep under a path."""
        if self._prompts or PRIVATE.isdisjoint(name.split(".")) or _holds_no_text(value):
            return self.expression(value)
        return "..."


def _holds_no_text(value: Any) -> bool:
    """Whether texts stand in settings only, each under a name of its own, or nowhere."""
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return all(map(_holds_no_text, value))
    return isinstance(value, Settings | Answer | AttemptFailure | int | float | None)


def _text(value: str) -> str:
    """Return a text in double quotes, as formatters write it."""
    quoted = repr(value)
    return f'"{quoted[1:-1]}"' if quoted.startswith("'") and '"' not in value and "\\'" not in quoted else quoted


def _call(name: str, arguments: list[str]) -> str:
    return _enclosed(f"{name}(", arguments, ")")


def _enclosed(opening: str, parts: list[str], closing: str) -> str:
    """Return the parts on one line where they fit, else each on its own."""
    line = ", ".join(parts)
    if len(line) <= _WIDTH and "\n" not in line:
        return f"{opening}{line}{closing}"
    indented = "".join(f"    {part.replace(chr(10), chr(10) + '    ')},\n" for part in parts)
    return f"{opening}\n{indented}{closing}"
