"""Are the packages there, in the versions that llmlab declares? The declaration is that of the installed llmlab."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from llmlab.cli.checkup.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Versions = Callable[[str], str | None]

EXTRAS = {
    "notebook": "JupyterLab",
    "dashboard": "the dashboard alone, by Voila",
    "cluster": "sweeps on a dask cluster",
    "otel": "events into OpenTelemetry",
    "tune": "a search for settings",
}
"""The extras that are for users, with what they bring."""


def installed(name: str) -> str | None:
    """Return the version of an installed package; `None` if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def check_python(running: str, wanted: str) -> Finding:
    """Is this Python one that llmlab runs on?

    Args:
        running: its version.
        wanted: what llmlab declares, such as `>=3.11`.
    """
    if running in SpecifierSet(wanted, prereleases=True):
        return Finding("Python", "ok", running)
    return Finding("Python", "problem", f"{running}, but llmlab needs {wanted}", "install llmlab with a newer Python")


def check_packages(declared: Iterable[str], version_of: Versions = installed) -> list[Finding]:
    """Is everything installed that llmlab cannot work without?

    Args:
        declared: requirements as the metadata of a package have them.
        version_of: tells the version of an installed package.
    """
    needed = list(_needed(declared))
    wrong = [(each, version_of(each.name)) for each in needed if not is_met(each, version_of)]
    if not wrong:
        return [Finding("packages", "ok", f"all {len(needed)} that llmlab needs, in versions that it works with")]
    return [
        Finding(
            each.name,
            "problem",
            f"{'not installed' if found is None else f'version {found}'}, but llmlab needs {each.specifier}",
            f'pip install "{each.name}{each.specifier}"',
        )
        for each, found in wrong
    ]


def check_extras(declared: Iterable[str], version_of: Versions = installed) -> list[Finding]:
    """Which extras are complete? One that is half there, or too old, would fail when it is used."""
    lines, findings = list(declared), []
    for extra, meaning in EXTRAS.items():
        needed = list(_needed(lines, extra))
        there = [each for each in needed if version_of(each.name) is not None]
        subject, command = f"extra {extra}", f'pip install "llmlab[{extra}]"'
        if needed and all(is_met(each, version_of) for each in needed):
            findings.append(Finding(subject, "ok", meaning))
        elif there:
            old = ", ".join(f"{each.name} {version_of(each.name)}" for each in there if not is_met(each, version_of))
            findings.append(Finding(subject, "note", f"{meaning}: {old or 'in part'} is not enough", command))
        else:
            findings.append(Finding(subject, "note", f"not installed: {meaning}", command))
    return findings


def _needed(lines: Iterable[str], extra: str = "") -> Iterator[Requirement]:
    """Yield what is needed always, or what only this extra needs."""
    for requirement in map(Requirement, lines):
        marker = requirement.marker
        always = marker is None or marker.evaluate({"extra": ""})
        if always != bool(extra) and (marker is None or marker.evaluate({"extra": extra})):
            yield requirement


def is_met(requirement: Requirement, version_of: Versions) -> bool:
    """Return whether a package is installed in a version that is wanted."""
    found = version_of(requirement.name)
    return found is not None and requirement.specifier.contains(found, prereleases=True)
