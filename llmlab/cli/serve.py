"""`llmlab serve`: the fault server in the foreground, until Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import typer

from llmlab.backends.faults import FAULT_SHORTHANDS
from llmlab.backends.http_host import is_loopback
from llmlab.backends.mock import MockBackend
from llmlab.backends.server_model import ServerModel
from llmlab.cli.console import HEAD, complain, ends_with_a_code, say, unusable
from llmlab.core.settings import SettingsError, nearest
from llmlab.experiments.documents import read_document
from llmlab.server.admin import in_short
from llmlab.server.fault_server import FaultServer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_OPTIONS = {f"--{name.replace('_', '-')}": name for name in FAULT_SHORTHANDS}


def run(
    *,
    probabilities: Sequence[str],
    profile: str | None,
    backend: Path | None,
    seed: int | None,
    record: Path | None,
    upstream: str | None,
    host: str,
    port: int,
) -> None:
    """Serve until Ctrl-C.

    Raises:
        typer.BadParameter: there is no such option, or its value is no probability.
        typer.Exit: a setting is wrong or the port is taken (2), it cannot go on (1), Ctrl-C (130), or SIGTERM (143).
    """
    faults = _probabilities(probabilities)
    with ends_with_a_code():
        settings = _settings(backend)
        if profile is not None:
            settings["server"] = ServerModel.profile(profile)
        if seed is not None:
            settings["seed"] = seed
        simulated = MockBackend(**{**settings, **faults})
        server = FaultServer(simulated, host=host, port=port, record=record, upstream=upstream)
        if not is_loopback(host):
            complain(
                f"warning: on {host} everybody who reaches this machine can use the server and see its counts; "
                "without --host it is for this machine alone"
            )
        try:
            asyncio.run(_until_stopped(server, lambda: _say_where(server, record)))
        except asyncio.CancelledError:
            complain("terminated")
            raise typer.Exit(143) from None
        except OSError as error:
            raise unusable(error, host, port) from None


async def _until_stopped(server: FaultServer, ready: Callable[[], None]) -> None:
    """Serve until cancelled. `kill` ends it in order as well: a shell's background jobs never see Ctrl-C."""
    task = asyncio.current_task()
    if task is not None:
        with suppress(NotImplementedError):  # where there are no signals
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await server.serve(ready)


def _settings(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    settings = read_document(file)
    base = settings.get("base")
    if isinstance(base, dict) and isinstance(base.get("backend"), dict):  # a sweep, as `llmlab calibrate` writes it
        settings = base["backend"]
    kind = settings.pop("kind", "mock")
    if kind != "mock":
        raise SettingsError(f"{file}: the fault server simulates, so the kind must be 'mock', got {kind!r}")
    try:
        MockBackend(**settings)
    except SettingsError as error:
        raise SettingsError(f"{file}: {error}") from None
    return settings


def _probabilities(given: Sequence[str]) -> dict[str, float]:
    """Return the probabilities that the options name, as settings of a `MockBackend`."""
    found: dict[str, float] = {}
    left = list(given)
    while left:
        option, separator, text = left.pop(0).partition("=")
        if option not in _OPTIONS:
            raise typer.BadParameter(f"no such option or argument '{option[:60]}'; {nearest(option[:60], _OPTIONS)}")
        if not separator:
            if not left:
                raise typer.BadParameter(f"{option} needs a probability")
            text = left.pop(0)
        try:
            found[_OPTIONS[option]] = float(text)
        except ValueError:
            raise typer.BadParameter(f"{option} must be a number from 0 to 1, got '{text[:60]}'") from None
    return found


def _say_where(server: FaultServer, record: Path | None) -> None:
    say(f"fault server at {server.url}, seed {server.backend.seed}; Ctrl-C ends it", HEAD)
    for name, text in in_short(server.backend).items():
        say(f"  {name} {text}" if name else f"  {text}")
    say()
    say("Send a client there:")
    say(f"  OLLAMA_HOST={server.url}")
    say(f"  OPENAI_BASE_URL={server.openai_url}  OPENAI_API_KEY=any")
    say(f"Live counts: {server.url}/ in a browser")
    if record is not None:
        say(f"Recording into {record}; then: llmlab judge {record}")
