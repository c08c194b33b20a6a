"""`llmlab doctor`: is all there that llmlab needs, does it work here, and what to do where it does not.

The checks stand in `checkup/`. One that fails itself is a problem like any other: the rest is still looked at.
"""

from __future__ import annotations

import json
import platform
import textwrap
from importlib import import_module, metadata
from typing import TYPE_CHECKING

import typer

from llmlab import __version__
from llmlab.cli.checkup.finding import Finding
from llmlab.cli.console import BAD, GOOD, HEAD, POOR, WIDTH, ends_with_a_code, say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import ModuleType

    Check = Callable[[], Finding | Sequence[Finding]]

_LOOKS = {"ok": "", "note": POOR, "problem": BAD}
_INDENT = " " * 25  # columns for a finding's state and subject


def run(*, store: Path, as_json: bool, checks: Sequence[tuple[str, Check]] | None = None) -> None:
    """Look at everything and say what was found, as a report or as JSON.

    Args:
        store: the folder where results are to be stored.
        as_json: whether to write JSON.
        checks: what to look at, each with its name; `None` means all that there is.

    Raises:
        typer.Exit: there is a problem (1), Ctrl-C (130), or nobody reads the output (141).
    """
    with ends_with_a_code():
        findings: list[Finding] = []
        if not as_json:
            say(
                f"llmlab {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}",
                HEAD,
            )
            say()
        for name, check in all_checks(store) if checks is None else checks:
            made = _made(name, check)
            findings += made
            for finding in made if not as_json else ():
                _say(finding)
        states = [finding.state for finding in findings]
        if as_json:
            say(json.dumps([finding._asdict() for finding in findings], indent=2, ensure_ascii=False))
        else:
            _say_verdict(states.count("problem"), states.count("note"))
        if "problem" in states:
            raise typer.Exit(1)


def all_checks(store: Path) -> list[tuple[str, Check]]:
    """Return every check with its name; each loads what it looks at itself, since that may be what is broken."""

    def work() -> ModuleType:
        return import_module("llmlab.cli.checkup.work")

    return [
        ("packages", _packages),
        ("virtual time", lambda: work().check_virtual_time()),
        ("store", lambda: work().check_store(store)),
        ("processes", lambda: work().check_processes()),
        ("charts", lambda: work().check_charts()),
        ("Jupyter", lambda: import_module("llmlab.cli.checkup.jupyter").check_jupyter()),
        ("Ollama", lambda: import_module("llmlab.cli.checkup.ollama").check_ollama()),
    ]


def _packages() -> list[Finding]:
    packages = import_module("llmlab.cli.checkup.packages")
    declared, wanted = metadata.requires("llmlab") or [], metadata.metadata("llmlab")["Requires-Python"]
    return [
        packages.check_python(platform.python_version(), wanted),
        *packages.check_packages(declared),
        *packages.check_extras(declared),
    ]


def _made(name: str, check: Check) -> Sequence[Finding]:
    try:
        found = check()
    except Exception as error:  # noqa: BLE001 - a broken package may raise anything: it is reported, and the rest looked at
        said = f"could not be looked at: {type(error).__name__}: {error}"
        return [Finding(name, "problem", said, "see the packages above; else reinstall llmlab, and report this")]
    return [found] if isinstance(found, Finding) else found


def _say(finding: Finding) -> None:
    """Write a finding with its remedy below it."""
    say(_folded(finding.said, f"{finding.state:9}{finding.subject:16}", _INDENT), _LOOKS[finding.state])
    if finding.do:
        say(_folded(finding.do, f"{_INDENT}-> ", f"{_INDENT}   "))


def _folded(text: str, first: str, others: str) -> str:
    """Break a text into lines, but neither a path nor an option in it: they are to be copied."""
    return textwrap.fill(
        text, WIDTH, initial_indent=first, subsequent_indent=others, break_long_words=False, break_on_hyphens=False
    )


def _say_verdict(problems: int, notes: int) -> None:
    say()
    if problems:
        say(f"{problems} problem{'s' if problems > 1 else ''}: llmlab does not fully work here.", BAD)
    else:
        say(f"llmlab works here.{' What the notes are about is optional.' if notes else ''}", GOOD)
