"""`llmlab lab`: JupyterLab on a copy of the notebooks, in a folder of the user's own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from llmlab.cli.console import ends_with_a_code, make_folder, say, say_text
from llmlab.cli.jupyter import free_port, needs, serve
from llmlab.core.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

_PACKAGE = Path(__file__).parents[1]
_COPIED = ("*.ipynb", "[!i]*.md", "guide/*.md", "pictures/*.png")
"""Not the book's `index.md`, which only Sphinx can read."""
_FIRST = "quickstart.ipynb"


def run(*, folder: Path, port: int, open_browser: bool, allow_root: bool) -> None:
    """Copy the notebooks and serve them.

    Raises:
        typer.Exit: JupyterLab is not installed, or the folder or the port cannot be used (2), Ctrl-C (130), or as
            JupyterLab ends.
    """
    with ends_with_a_code():
        needs("jupyterlab", "notebook")
        port = free_port(port)
        copied = copy_notebooks(make_folder(folder))
        say(f"{len(copied.written)} files copied to {folder}" if copied.written else f"the notebooks are in {folder}")
        if copied.kept:
            kept = ", ".join(copied.kept)
            say_text(
                f"Kept as they are, since they differ from llmlab's: {kept}. Rename one, and its original is copied."
            )
        root = ["--allow-root"] if allow_root else []
        command = ["jupyterlab", f"--ServerApp.root_dir={folder.resolve()}", *root]
        serve("JupyterLab", command, port=port, path=f"/lab/tree/{_FIRST}", open_browser=open_browser)


class Copied(NamedTuple):
    """What became of the notebooks, by name.

    Attributes:
        written: those that were not there.
        kept: those that were there and are not what llmlab has: edited, run, or of another version.
    """

    written: Sequence[str]
    kept: Sequence[str]


def originals() -> Path:
    """Return the folder of the notebooks: inside the package, or beside it where it is used from its repository.

    Raises:
        SettingsError: this installation has none.
    """
    for folder in (_PACKAGE / "book", _PACKAGE.parent / "notebooks"):
        if (folder / _FIRST).is_file():
            return folder
    raise SettingsError(f"this installation has no notebooks ('{_PACKAGE / 'book'}' is missing); install llmlab again")


def copy_notebooks(folder: Path) -> Copied:
    """Copy the notebooks and what they show and link to; a file that is there is never written over.

    Raises:
        SettingsError: the folder is where the originals are.
    """
    source = originals()
    if folder.resolve().is_relative_to(source.resolve()):
        raise SettingsError(f"'{folder}' holds llmlab's own notebooks; name another folder, for a copy of yours")
    written, kept = [], []
    for pattern in _COPIED:
        for file in sorted(source.glob(pattern)):
            name = file.relative_to(source)
            target = folder / name
            if not target.exists():
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(file, target)
                written.append(str(name))
            elif target.read_bytes() != file.read_bytes():
                kept.append(str(name))
    return Copied(written, kept)
