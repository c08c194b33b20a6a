"""What the commands write: lines, tables, colour where there is a terminal for it, and the ends of a command.

Colour follows https://no-color.org and https://force-color.org; nothing is said by colour alone. Data go to stdout,
complaints to stderr.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import textwrap
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from llmlab.core.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WIDTH = 80
"""The columns that every line keeps to, but for what users name themselves."""

GOOD, POOR, BAD, HEAD = "green", "yellow", "red", "bold"


def wants_colour() -> bool:
    """Whether stdout is to be coloured."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def say(text: str = "", look: str = "") -> None:
    """Write a line to stdout, at once.

    Args:
        text: the line.
        look: `GOOD`, `POOR`, `BAD`, `HEAD`, or nothing.

    Raises:
        BrokenPipeError: nobody reads it any more.
    """
    colour = wants_colour()
    if colour and look:
        text = typer.style(text, bold=True) if look == HEAD else typer.style(text, fg=look)
    typer.echo(text, color=colour)


def say_text(text: str) -> None:
    """Write prose to stdout, broken into lines."""
    say(textwrap.fill(text, WIDTH))


def complain(text: str) -> None:
    """Write a line to stderr, each line led by the program's name."""
    for line in text.splitlines():
        typer.echo(f"llmlab: {line}", err=True)


def say_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, texts: int = 1, looks: Sequence[str] = ()) -> None:
    """Write a table to stdout.

    Args:
        head: the columns' names.
        rows: the cells.
        texts: how many of the columns, from the left, are texts; the others are numbers and stand to the right.
        looks: for each row how it looks; see `say`.
    """
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if number < texts else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(padded).rstrip()

    say(line(head), HEAD)
    say(line(["-" * width for width in widths]))
    for row, look in zip(rows, looks or [""] * len(rows), strict=True):
        say(line(row), look)


def make_folder(out: Path | str) -> Path:
    """Make the folder before the work, so that a wrong name costs no time; return it.

    Raises:
        SettingsError: it cannot be made or written into.
    """
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"--out: cannot make the folder '{folder}' ({error.strerror}); name another") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SettingsError(f"--out: no permission to write into the folder '{folder}'; name another")
    return folder


def file_to_write(out: Path, endings: Sequence[str]) -> Path:
    """Return a file that is to be written, before the work that would be lost.

    Raises:
        SettingsError: its name has another ending, or there is no folder for it.
    """
    if out.suffix.lower() not in endings:
        known = f"{', '.join(endings[:-1])} or {endings[-1]}"
        raise SettingsError(f"--out: the name must end in {known}; got '{out}'")
    if not out.parent.is_dir():
        raise SettingsError(f"--out: there is no folder '{out.parent}'; name a file in a folder that is there")
    return out


def unusable(error: OSError, host: str, port: int) -> Exception:
    """Say what to do about an address that cannot be listened on; another error stays as it is."""
    if error.errno == errno.EADDRINUSE:
        return SettingsError(f"--port: {port} is taken on {host}; name another, or --port 0 for a free one")
    if error.errno == errno.EACCES:
        return SettingsError(f"--port: no permission to listen on {port}; take one from 1024 on, or --port 0")
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return SettingsError(f"--host: '{host}' is no address of this machine; take 127.0.0.1, or 0.0.0.0 for all")
    return error


@contextmanager
def ends_with_a_code() -> Iterator[None]:
    """Turn a user's mistake, Ctrl-C, a full disk and a reader who went away into exit codes, without a traceback."""
    try:
        yield
    except SettingsError as error:
        complain(str(error))
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        complain("interrupted")
        raise typer.Exit(130) from None
    except BrokenPipeError:
        _write_no_more()
        raise typer.Exit(141) from None
    except OSError as error:  # a full disk, above all
        _write_no_more()
        complain(f"cannot go on: {error}")
        raise typer.Exit(1) from None


def _write_no_more() -> None:
    """Lead stdout to nowhere: what is still buffered would fail again at Python's end, where nobody could catch it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
