"""`llmlab report` as a user meets it: what it writes, what it says, and how it ends."""

import pytest
from typer.testing import CliRunner

from llmlab import ClosedLoop, Experiment, MockBackend, Sweep
from llmlab.cli import app
from llmlab.experiments.readable import settings_by_path
from llmlab.experiments.runs import Run
from llmlab.experiments.store import RunBatch, Store, run_key
from llmlab.reports import sections

RETRIES = "policy.retry.max_retries"
SWEEP = Sweep(
    Experiment(backend=MockBackend(overload_probability=0.2), workload=ClosedLoop(calls=50)), {RETRIES: [0, 2]}
)


def invoke(*arguments):
    """Run the command in this process."""
    return CliRunner().invoke(app, ["report", *map(str, arguments)], catch_exceptions=False)


def begin(path, finished):
    """Make a store in which a sweep was begun, and so many of its runs are finished."""
    runs = list(SWEEP.runs())
    planned = [Run(settings, replicate, one.seed, None, run_key(one)) for settings, replicate, one in runs]
    store = Store(path)
    store.begin([RETRIES], planned, settings_by_path(SWEEP.base))
    made = [(run.key, one.record()) for run, (_, _, one) in zip(planned, runs, strict=True)][:finished]
    if made:
        store.write(RunBatch.of(made))
    return path


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return begin(tmp_path_factory.mktemp("cli") / "results", 2)


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """In a folder of its own, and without charts, which take the time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sections, "charts", lambda result, recommendation: sections.text(""))


def test_it_writes_a_file_and_says_where(results, tmp_path):
    result = invoke(results)
    assert result.exit_code == 0
    assert result.stdout == "report   llmlab-report.html\n"
    assert "Nothing is recommended" in (tmp_path / "llmlab-report.html").read_text("utf-8")


def test_with_an_slo_it_says_what_to_set(results, tmp_path):
    result = invoke(results, "--out", "out.html", "--slo", "success_rate=0.5", "--slo", "max_amplification=2")
    assert result.exit_code == 0
    assert result.stdout.startswith("Use policy.retry.max_retries=")
    page = (tmp_path / "out.html").read_text("utf-8")
    assert "The SLO is kept" in page


def test_it_lists_the_settings_of_the_experiment(results, tmp_path):
    assert invoke(results).exit_code == 0
    assert "policy.retry.backoff.jitter" in (tmp_path / "llmlab-report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--slo", "success_rate"], "--slo: must be NAME=VALUE, such as success_rate=0.99; got 'success_rate'"),
        (["--slo", "success_rate=2"], "success_rate"),
        (["--slo", "succes_rate=0.9"], "did you mean 'success_rate'"),
        (["--slo", "success_rate=much"], "success_rate"),
        (["--slo", "success_rate=0.9", "--slo", "success_rate=0.8"], "success_rate is given twice"),
        (["--slo", "success_rate=0.9", "--minimise", "pain"], "minimise cannot be 'pain'"),
        (["--minimise", "amplification"], "--minimise: chooses among the settings that keep an SLO; give one by --slo"),
        (["--out", "nowhere/out.html"], "there is no folder 'nowhere'"),
    ],
)
def test_what_is_wrong_is_said_in_a_line_and_ends_with_2(results, tmp_path, arguments, said):
    result = invoke(results, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_folder_that_a_sweep_wrote_to_will_do(tmp_path):
    begin(tmp_path / "out" / "runs", 2)
    assert invoke("out").exit_code == 0
    assert (tmp_path / "llmlab-report.html").exists()


def test_a_store_of_summaries_is_refused_with_what_to_keep_and_leaves_no_file(tmp_path):
    SWEEP.run(store=tmp_path / "brief", keep="summary", progress=False)
    result = invoke("brief")
    assert result.exit_code == 2
    assert "keep='summary', which leaves the calls out" in result.stderr
    assert "with keep='calls'" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["brief"]


def test_a_folder_without_results_is_refused(tmp_path):
    result = invoke(tmp_path / "nothing")
    assert result.exit_code == 2
    assert "there is no store at" in result.stderr


def test_a_sweep_of_which_nothing_is_finished_yet_is_refused(tmp_path):
    result = invoke(begin(tmp_path / "begun", 0))
    assert result.exit_code == 2
    assert "no run is finished in" in result.stderr


def test_a_sweep_that_was_interrupted_is_reported_as_far_as_it_went(tmp_path):
    assert invoke(begin(tmp_path / "half", 1)).exit_code == 0
    assert "1 of 2" in (tmp_path / "llmlab-report.html").read_text("utf-8")
