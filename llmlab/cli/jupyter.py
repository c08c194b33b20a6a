"""A Jupyter server as a child of the command: on this machine alone, behind a token, until Ctrl-C."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import webbrowser
from importlib.util import find_spec
from typing import TYPE_CHECKING

import typer

from llmlab.cli.console import HEAD, say, unusable
from llmlab.core.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import FrameType

HOST = "127.0.0.1"
_LOOK_AGAIN_S = 0.1
_UNTIL_STOPPED_S = 10.0
_WARNINGS = 30


def needs(module: str, extra: str) -> None:
    """Refuse to go on without a package that an extra brings.

    Raises:
        SettingsError: it is not installed here.
    """
    if find_spec(module) is None:
        raise SettingsError(f'{module} is not installed in this environment: pip install "llmlab[{extra}]"')


def free_port(wanted: int) -> int:
    """Return the port, or for 0 one that is free.

    Raises:
        SettingsError: something else listens there, or nobody but root may.
    """
    with socket.socket() as listener:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, wanted))
        except OSError as error:
            raise unusable(error, HOST, wanted) from None
        return int(listener.getsockname()[1])


def serve(
    what: str, command: Sequence[str], *, port: int, path: str, open_browser: bool, folder: Path | None = None
) -> None:
    """Run a Jupyter server until it ends or Ctrl-C ends it; say where it is, and open a browser there.

    Args:
        what: its name.
        command: the module to run and its options; those on address, port, token and browser are added.
        port: where it is to listen, on loopback.
        path: what the browser is to show, from the root on.
        open_browser: whether to open one.
        folder: its working directory; `None` is the present one.

    Raises:
        KeyboardInterrupt: Ctrl-C.
        typer.Exit: it did not start, or ended by itself, with its exit code.
    """
    token = secrets.token_hex(24)
    app = "Voila" if command[0] == "voila" else "ServerApp"
    options = [f"--{app}.{name}={value}" for name, value in {"ip": HOST, "port": port, "port_retries": 0}.items()]
    options += ["--no-browser", f"--Application.log_level={_WARNINGS}"]
    options.append("--Voila.auto_token=True" if app == "Voila" else "--ServerApp.answer_yes=True")
    # The token goes by the environment, which other users cannot see.
    process = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", *command, *options],
        env={**os.environ, "JUPYTER_TOKEN": token},
        cwd=folder,
    )
    before = signal.signal(signal.SIGTERM, _ended)
    try:
        if _listens(process, port):
            url = f"http://{HOST}:{port}{path}?token={token}"
            say(f"{what} at {url}", HEAD)
            say("For this machine alone, and behind that token; Ctrl-C ends it.")
            if open_browser:
                webbrowser.open(url)
        code = process.wait()
    finally:
        _stop(process)
        signal.signal(signal.SIGTERM, before)
    raise typer.Exit(code)


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until the server takes connections; False if it ends before."""
    while process.poll() is None:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            time.sleep(_LOOK_AGAIN_S)
        else:
            return True
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server with its kernels, which it does when asked to terminate."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_UNTIL_STOPPED_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ended(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
