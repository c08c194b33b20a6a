"""Is Jupyter ready for llmlab's notebooks and dashboard? llmlab works without it, so all of this is notes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from llmlab.cli.checkup.finding import Finding
from llmlab.cli.checkup.packages import installed, is_met
from llmlab.notebook import patch_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llmlab.cli.checkup.packages import Versions

_MANAGER = Path("labextensions", "@jupyter-widgets", "jupyterlab-manager", "package.json")


def check_jupyter(
    version_of: Versions = installed,
    *,
    data_folders: Sequence[Path] | None = None,
    kernels: Mapping[str, str] | None = None,
    python: str = sys.executable,
) -> list[Finding]:
    """Are a front end, a kernel of this Python and the widgets there?

    Args:
        version_of: tells the version of an installed package.
        data_folders: Jupyter's data folders; `None` asks Jupyter.
        kernels: the Python of each kernel, by the kernel's name; `None` asks Jupyter.
        python: the Python that llmlab is installed in.
    """
    front_ends = {name: version_of(name) for name in ("jupyterlab", "notebook", "voila")}
    ipykernel = version_of("ipykernel")
    if ipykernel is None:
        said = "no ipykernel here, so no notebook can run with this Python"
        return [Finding("Jupyter", "note", said, 'pip install "llmlab[notebook]"')]
    there = [f"{name} {version}" for name, version in front_ends.items() if version]
    findings = [
        Finding("Jupyter", "ok", ", ".join([*there, f"ipykernel {ipykernel}"]))
        if there
        else Finding(
            "Jupyter",
            "note",
            f"ipykernel {ipykernel}, but no front end in this environment",
            'pip install "llmlab[notebook]", or use one that is elsewhere (VS Code, JupyterHub)',
        )
    ]
    findings.append(_kernel(_kernels() if kernels is None else kernels, python))
    folders = _data_folders() if data_folders is None else data_folders
    findings.append(_widgets(version_of, folders, has_front_end=bool(there)))
    findings.append(_nested_asyncio(version_of, ipykernel))
    return findings


def _kernel(kernels: Mapping[str, str], python: str) -> Finding:
    ours = [name for name, its_python in kernels.items() if _same(its_python, python)]
    if ours:
        return Finding("kernel", "ok", f"{', '.join(ours)}: this Python")
    said = f"of {len(kernels)} kernels none runs this Python ({python})"
    return Finding("kernel", "note", said, f"{python} -m ipykernel install --user --name llmlab")


def _same(one: str, other: str) -> bool:
    """Whether two commands are the same Python; `python` alone is the one whose Jupyter reads the kernel."""
    return one in {"python", "python3", other} or Path(one).absolute() == Path(other).absolute()


def _widgets(version_of: Versions, folders: Sequence[Path], *, has_front_end: bool) -> Finding:
    ipywidgets = version_of("ipywidgets")
    manager = next((folder / _MANAGER for folder in folders if (folder / _MANAGER).is_file()), None)
    if manager is not None:
        return Finding("widgets", "ok", f"ipywidgets {ipywidgets}, and JupyterLab's part of them ({_version(manager)})")
    if not has_front_end:
        return Finding("widgets", "ok", f"ipywidgets {ipywidgets}; the front end brings its own part of them")
    said = f"ipywidgets {ipywidgets}, but JupyterLab's part of them (jupyterlab_widgets) is not where JupyterLab looks"
    remedy = "pip install --force-reinstall jupyterlab_widgets, in the environment that JupyterLab runs in; then reload"
    return Finding("widgets", "note", said, remedy)


def _version(manager: Path) -> str:
    try:
        return str(json.loads(manager.read_text(encoding="utf-8"))["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return "version unknown"


def _nested_asyncio(version_of: Versions, ipykernel: str) -> Finding:
    """Say which patch `llmlab.notebook.enable_nested_asyncio` would take; llmlab itself needs none."""
    wanted = patch_for(ipykernel)
    found = version_of(wanted.name)
    if is_met(wanted, version_of):
        return Finding("asyncio.run", "ok", f"llmlab needs no patch; for code of yours there is {wanted.name} {found}")
    said = "llmlab needs no patch, but code of yours that calls asyncio.run in cells needs"
    if found is None:
        return Finding("asyncio.run", "note", f"{said} {wanted.name}", f"pip install {wanted.name}")
    return Finding("asyncio.run", "note", f"{said} {wanted}, not {found}", f'pip install "{wanted}"')


def _data_folders() -> list[Path]:
    from jupyter_core.paths import jupyter_path  # noqa: PLC0415 - only there with a kernel

    return [Path(folder) for folder in jupyter_path()]


def _kernels() -> dict[str, str]:
    from jupyter_client.kernelspec import KernelSpecManager  # noqa: PLC0415 - only there with a kernel

    specs = KernelSpecManager().get_all_specs()
    return {name: (entry["spec"].get("argv") or [""])[0] for name, entry in specs.items()}
