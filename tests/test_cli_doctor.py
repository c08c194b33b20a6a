"""`llmlab doctor`: what it finds in machines that lack something, what it advises, and how it ends."""

import json
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from llmlab.cli import app, doctor
from llmlab.cli.checkup.finding import Finding
from llmlab.cli.checkup.jupyter import check_jupyter
from llmlab.cli.checkup.ollama import check_ollama
from llmlab.cli.checkup.packages import check_extras, check_packages, check_python
from llmlab.cli.checkup.work import check_charts, check_processes, check_store, check_virtual_time
from llmlab.server.replay import ReplayServer

WIDTH = 80
DECLARED = [
    "httpx>=0.27",
    "pandas>=3.0",
    'tomli>=2; python_version < "3"',
    'jupyterlab>=4.3; extra == "notebook"',
    'optuna>=4.0; extra == "tune"',
]
READY = {
    "httpx": "0.28.1",
    "pandas": "3.1.0",
    "jupyterlab": "4.6.6",
    "ipykernel": "7.4.0",
    "ipywidgets": "8.1.9",
    "nest-asyncio2": "1.7.4",
}


def versions(**changed):
    return (READY | {name.replace("_", "-"): version for name, version in changed.items()}).get


def states(findings):
    return {finding.subject: finding.state for finding in findings}


def remedies(findings):
    return [finding.do for finding in findings if finding.do]


@pytest.fixture
def data_folder(tmp_path):
    """A data folder of Jupyter's with the widgets' part of JupyterLab in it."""
    manager = tmp_path / "labextensions" / "@jupyter-widgets" / "jupyterlab-manager"
    manager.mkdir(parents=True)
    (manager / "package.json").write_text('{"version": "5.0.16"}')
    return tmp_path


# ---- packages


def test_all_packages_in_good_versions_are_one_line():
    [finding] = check_packages(DECLARED, versions())
    assert (finding.state, finding.do) == ("ok", "")
    assert "all 2" in finding.said


@pytest.mark.parametrize("found", [None, "2.3.1"])
def test_a_package_that_is_missing_or_too_old_is_a_problem_with_the_command_that_solves_it(found):
    [finding] = check_packages(DECLARED, versions(pandas=found))
    assert (finding.subject, finding.state, finding.do) == ("pandas", "problem", 'pip install "pandas>=3.0"')
    assert ("not installed" if found is None else found) in finding.said


def test_a_release_candidate_of_a_package_is_new_enough():
    assert states(check_packages(DECLARED, versions(pandas="3.2.0rc1"))) == {"packages": "ok"}


def test_an_old_python_is_a_problem():
    assert check_python("3.13.0", ">=3.11").state == "ok"
    assert check_python("3.15.0a2", ">=3.11").state == "ok"
    assert "3.10.4, but llmlab needs >=3.11" in check_python("3.10.4", ">=3.11").said


def test_an_extra_that_is_missing_or_too_old_is_a_note():
    findings = check_extras(DECLARED, versions(optuna="3.6.0"))
    tune = next(finding for finding in findings if finding.subject == "extra tune")
    assert states(findings)["extra notebook"] == "ok"
    assert (tune.state, tune.do) == ("note", 'pip install "llmlab[tune]"')
    assert "optuna 3.6.0 is not enough" in tune.said
    assert {finding.state for finding in check_extras(DECLARED, {}.get)} == {"note"}


# ---- what llmlab does here


def test_the_clock_of_a_simulation_jumps_here():
    assert check_virtual_time().state == "ok"


def test_a_sweep_is_stored_and_leaves_nothing_behind(tmp_path):
    assert states(check_store(tmp_path)) == {"store": "ok"}
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_a_problem_that_names_it(tmp_path):
    [finding] = check_store(tmp_path / "missing")
    assert finding.state == "problem"
    assert str(tmp_path / "missing") in finding.said


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that nobody, not even root, may write into")
def test_a_folder_that_cannot_be_written_is_a_problem():
    [finding] = check_store(Path("/proc/self"))
    assert finding.state == "problem"
    assert "cannot write into" in finding.said
    assert "choose another folder" in finding.do


def test_a_worker_process_answers():
    assert check_processes().state == "ok"


def test_work_that_stays_in_this_process_is_a_problem():
    finding = check_processes(ThreadPoolExecutor(1))
    assert (finding.state, finding.do) == ("problem", "run sweeps with workers=1")


def test_processes_that_cannot_be_started_are_a_problem():
    closed = ThreadPoolExecutor(1)
    closed.shutdown()
    finding = check_processes(closed)
    assert finding.state == "problem"
    assert "RuntimeError: cannot schedule new futures" in finding.said


def test_charts_are_drawn_and_fonts_that_are_listed_anew_each_time_are_a_note(tmp_path):
    assert states(check_charts(tmp_path)) == {"charts": "ok"}
    findings = check_charts(tmp_path / "missing")
    assert states(findings) == {"charts": "ok", "fonts": "note"}
    assert "MPLCONFIGDIR" in findings[1].do


# ---- Jupyter


def test_jupyter_that_is_ready_needs_nothing(data_folder):
    findings = check_jupyter(
        versions(), data_folders=[data_folder], kernels={"python3": "/env/bin/python"}, python="/env/bin/python"
    )
    assert {finding.state for finding in findings} == {"ok"}
    assert remedies(findings) == []


def test_without_a_kernel_nothing_else_is_asked():
    [finding] = check_jupyter(versions(ipykernel=None), data_folders=[], kernels={})
    assert (finding.state, finding.do) == ("note", 'pip install "llmlab[notebook]"')


def test_widgets_that_jupyterlab_does_not_find_are_a_note(tmp_path):
    findings = check_jupyter(versions(), data_folders=[tmp_path], kernels={"python3": "python"})
    widgets = next(finding for finding in findings if finding.subject == "widgets")
    assert widgets.state == "note"
    assert "jupyterlab_widgets" in widgets.do


def test_a_front_end_elsewhere_is_taken_to_bring_its_widgets(tmp_path):
    findings = check_jupyter(versions(jupyterlab=None), data_folders=[tmp_path], kernels={"python3": "python"})
    assert states(findings) == {"Jupyter": "note", "kernel": "ok", "widgets": "ok", "asyncio.run": "ok"}


def test_kernels_of_other_pythons_alone_are_a_note(data_folder):
    findings = check_jupyter(
        versions(), data_folders=[data_folder], kernels={"other": "/usr/bin/python3"}, python="/env/bin/python"
    )
    kernel = next(finding for finding in findings if finding.subject == "kernel")
    assert (kernel.state, kernel.do) == ("note", "/env/bin/python -m ipykernel install --user --name llmlab")


@pytest.mark.parametrize(("ipykernel", "patch"), [("6.30.1", "nest-asyncio"), ("7.4.0", "nest-asyncio2")])
def test_the_patch_is_the_one_that_is_safe_on_the_kernel(ipykernel, patch, data_folder):
    asked = versions(ipykernel=ipykernel, nest_asyncio=None, nest_asyncio2=None)
    findings = check_jupyter(asked, data_folders=[data_folder], kernels={"python3": "python"})
    assert remedies(findings) == [f"pip install {patch}"]


def test_a_patch_that_the_notebook_refuses_is_told_with_its_remedy(data_folder):
    asked = versions(ipykernel="7.4.0", nest_asyncio2="1.7.2")
    findings = check_jupyter(asked, data_folders=[data_folder], kernels={"python3": "python"})
    assert remedies(findings) == ['pip install "nest-asyncio2>=1.7.3"']


# ---- Ollama


def test_an_ollama_that_answers_is_described():
    with ReplayServer() as server:
        finding = check_ollama(server.url)
    assert finding.state == "ok"
    assert server.url in finding.said


def test_an_ollama_without_models_is_told_what_to_pull():
    with ReplayServer([]) as server:
        finding = check_ollama(server.url)
    assert finding.state == "note"
    assert finding.do


def test_no_ollama_is_a_note():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        finding = check_ollama(f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert finding.state == "note"
    assert "connection refused" in finding.said


def test_an_ollama_that_says_nothing_is_not_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        finding = check_ollama(f"http://127.0.0.1:{silent.getsockname()[1]}", within=0.05)
    assert (finding.state, finding.said) == ("note", "no answer within 0.05 s")


def test_a_wrong_address_of_an_ollama_is_a_note():
    finding = check_ollama("nonsense://x")
    assert finding.state == "note"
    assert "OLLAMA_HOST" in finding.do


# ---- the command


def run(capsys, *checks, as_json=False):
    code = 0
    try:
        doctor.run(store=Path(), as_json=as_json, checks=checks)
    except typer.Exit as end:
        code = end.exit_code
    return code, capsys.readouterr().out


def test_notes_alone_end_with_0(capsys):
    code, text = run(capsys, ("a", lambda: Finding("a", "note", "is not there", "get one")))
    assert code == 0
    assert text.splitlines()[2:] == [
        "note     a               is not there",
        "                         -> get one",
        "",
        "llmlab works here. What the notes are about is optional.",
    ]


def test_a_problem_ends_with_1(capsys):
    code, text = run(capsys, ("a", lambda: [Finding("a", "ok", "fine"), Finding("b", "problem", "bad", "mend it")]))
    assert code == 1
    assert text.splitlines()[-1] == "1 problem: llmlab does not fully work here."


def test_a_check_that_fails_itself_is_a_problem_and_the_others_are_still_made(capsys):
    def broken():
        raise ImportError("No module named 'pandas'")

    code, text = run(capsys, ("store", broken), ("other", lambda: Finding("other", "ok", "fine")), as_json=True)
    assert code == 1
    assert [(each["subject"], each["state"]) for each in json.loads(text)] == [("store", "problem"), ("other", "ok")]
    assert "No module named 'pandas'" in text


def test_everything_is_looked_at_here(tmp_path, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
    monkeypatch.setenv("JUPYTER_PATH", os.fspath(tmp_path))
    result = CliRunner().invoke(app, ["doctor", "--store", str(tmp_path), "--json"])
    found = {each["subject"]: each["state"] for each in json.loads(result.stdout)}
    assert found.keys() >= {"Python", "packages", "virtual time", "store", "processes", "charts", "Jupyter", "Ollama"}
    assert "problem" not in found.values()
    assert found["Ollama"] == "note"
    assert result.exit_code == 0


def test_the_report_keeps_to_the_width(capsys):
    said = "a long sentence about what was found, " * 4
    _, text = run(capsys, ("a", lambda: Finding("a", "note", said, "do this and that, " * 8)))
    assert max(map(len, text.splitlines())) <= WIDTH
