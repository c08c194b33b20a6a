"""Notebook cells: what llmlab needs there is nothing, and what `asyncio.run` needs there.

A kernel's event loop runs while a cell does, and `asyncio.run` refuses to start a second one. llmlab's sync clients,
`sweep.run` and `virtual_time.run` work in a cell as they stand (they use a loop on another thread), and so does
`await`. Who has code of their own that calls `asyncio.run` can patch the kernel's loop by `enable_nested_asyncio`.
llmlab itself never does: the patch is for the whole process, and it makes every task slower.
"""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module
from importlib.metadata import version
from typing import Any, NamedTuple

from packaging.requirements import Requirement
from packaging.version import Version

from llmlab.core.settings import SettingsError

_AWAIT = "await the coroutine instead, or run it in a thread of its own"


class NestedAsyncio(NamedTuple):
    """What `enable_nested_asyncio` did, and why; as a cell's last line it says so."""

    module: str | None
    """The module that patched asyncio, `nest_asyncio` or `nest_asyncio2`; `None` where nothing was patched."""
    reason: str

    def __repr__(self) -> str:
        return f"nothing patched: {self.reason}" if self.module is None else f"patched by {self.module}: {self.reason}"


def enable_nested_asyncio() -> NestedAsyncio:
    """Let your own code call `asyncio.run` in notebook cells, with the patch that is safe on this kernel.

    That is nest-asyncio2 on ipykernel 7 and later (where nest-asyncio hangs JupyterLab), nest-asyncio on earlier ones.
    llmlab itself does not need it. It lasts until the kernel is restarted, and has a price: asyncio's tasks are pure
    Python from then on, which measured latencies show, and `asyncio.run(..., loop_factory=...)` no longer has its
    meaning. Outside a notebook nothing is patched, for nothing is needed there.

    Raises:
        SettingsError: no patch is safe here (another kernel than ipykernel, another loop than asyncio's, a coroutine
            outside a notebook, nest-asyncio already at work on ipykernel 7), or nest-asyncio2 is not installed or one
            that hangs; the message says which, and what to do.
    """
    loop = asyncio._get_running_loop()
    kernel = _ipykernel()
    if loop is None and kernel is None:
        return NestedAsyncio(None, "no event loop is running here, so asyncio.run works as it is")
    if kernel is None:
        raise SettingsError(
            f"an event loop is running here, but not that of an ipykernel, and no patch is known to be safe; {_AWAIT}"
        )
    if loop is not None and not isinstance(loop, asyncio.BaseEventLoop):
        raise SettingsError(f"the kernel's event loop is a {type(loop).__module__} loop, not asyncio's own; {_AWAIT}")
    return _applied(patch_for(kernel), f"ipykernel {kernel}", loop)


def _ipykernel() -> str | None:
    """Return the version of the ipykernel that this code runs in; `None` where it runs in none."""
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    found: Any = sys.modules.get("ipykernel")
    return None if found is None or getattr(shell, "kernel", None) is None else str(found.__version__)


def patch_for(ipykernel: str) -> Requirement:
    """Return what can patch asyncio safely on this version of ipykernel.

    With nest-asyncio2 1.7.0 to 1.7.2, ipykernel 7 stops after the first `asyncio.run` among cells that were queued
    ("Run all").
    """
    return Requirement("nest-asyncio2>=1.7.3" if Version(ipykernel).major >= 7 else "nest-asyncio")


def _applied(patch: Requirement, kernel: str, loop: asyncio.AbstractEventLoop | None) -> NestedAsyncio:
    present, variant = _at_work(), patch.name.replace("-", "_")
    if present == variant:
        return NestedAsyncio(variant, "it already was")
    if variant == "nest_asyncio2" and present is not None:
        raise SettingsError(
            f"nest-asyncio has already patched asyncio here, which hangs JupyterLab on {kernel}; find what calls "
            "nest_asyncio.apply(), restart the kernel, and call enable_nested_asyncio() instead"
        )
    if present is not None:
        return NestedAsyncio(present, "it already was")
    try:
        module = import_module(variant)
    except ImportError:
        raise SettingsError(
            f'{kernel} needs {patch.name}, which is not installed: pip install "{patch.name}"'
        ) from None
    if not patch.specifier.contains(found := version(patch.name), prereleases=True):
        raise SettingsError(
            f'{patch.name} {found} hangs {kernel} on "Run all"; pip install "{patch}", then restart the kernel'
        )
    module.apply(loop)
    return NestedAsyncio(variant, f"the variant that is safe on {kernel}; until the kernel is restarted")


def _at_work() -> str | None:
    """Return which variant has patched asyncio; `None` if none has."""
    if not hasattr(asyncio, "_nest_patched"):
        return None
    return "nest_asyncio2" if hasattr(asyncio, "_nest_asyncio2") else "nest_asyncio"
