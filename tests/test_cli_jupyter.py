"""`llmlab lab` and `llmlab dashboard` without a browser: what is copied and kept, and what is wrong with the arguments.

That the pages work, and refuse whoever has no token, is shown in `tests/browser`.
"""

import json
import socket
import sys
from pathlib import Path

import pytest

from llmlab import SettingsError, Sweep
from llmlab.cli import exit_code
from llmlab.cli.dashboard import page
from llmlab.cli.jupyter import free_port, needs
from llmlab.cli.lab import copy_notebooks, originals

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))


def test_all_notebooks_are_copied_with_what_they_show(tmp_path):
    copied = copy_notebooks(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.ipynb")) == NOTEBOOKS
    assert {"README.md", "guide/policy.md", "pictures/failure_rate.png"} <= set(copied.written)
    assert copied.kept == []
    assert not {"conf.py", "index.md"} & {path.name for path in tmp_path.iterdir()}


def test_what_the_user_changed_is_kept_and_what_is_missing_is_copied_again(tmp_path):
    copy_notebooks(tmp_path)
    (tmp_path / "quickstart.ipynb").write_text("mine")
    (tmp_path / "verify.ipynb").unlink()
    again = copy_notebooks(tmp_path)
    assert (again.written, again.kept) == (["verify.ipynb"], ["quickstart.ipynb"])
    assert (tmp_path / "quickstart.ipynb").read_text() == "mine"


@pytest.mark.parametrize("inside", ["", "pictures"])
def test_the_originals_are_never_edited_in_place(inside):
    with pytest.raises(SettingsError, match="holds llmlab's own notebooks; name another folder"):
        copy_notebooks(originals() / inside)


def test_what_is_not_installed_is_named_with_its_extra():
    with pytest.raises(SettingsError, match=r'nosuch is not installed .*: pip install "llmlab\[notebook\]"'):
        needs("nosuch", "notebook")
    needs("json", "notebook")


@pytest.mark.parametrize(("command", "module"), [("lab", "jupyterlab"), ("dashboard", "voila")])
def test_a_command_without_its_package_ends_with_its_remedy(command, module, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("llmlab.cli.jupyter.find_spec", lambda name: None if name == module else sys)
    assert exit_code([command, "--no-browser"]) == 2
    assert f"llmlab: {module} is not installed" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"--port: {port} is taken on 127.0.0.1; .*--port 0 for a free one"):
            free_port(port)
    assert free_port(0) > 0


def test_a_file_that_is_not_there_is_refused_before_anything_starts(monkeypatch, capsys):
    monkeypatch.setattr("llmlab.cli.jupyter.find_spec", lambda _: sys)
    assert exit_code(["dashboard", "nosuch.toml", "--port", "0"]) == 2
    assert "there is no file 'nosuch.toml'" in capsys.readouterr().err


def test_the_page_is_one_cell_that_works_in_the_users_folder(tmp_path, monkeypatch):
    folder = tmp_path / "it's a folder"
    folder.mkdir()
    file = Sweep().save(folder / "sweep.toml")
    (cell,) = json.loads(page(folder, file))["cells"]
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(cell["source"], names)
    try:
        assert Path.cwd() == folder
        assert names["dashboard"].experiment == Sweep().base
    finally:
        names["dashboard"].close()
