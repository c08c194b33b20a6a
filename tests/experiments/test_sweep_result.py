"""A result in memory and the same one in a store: one behaviour."""

import re

import pandas as pd
import pytest

from llmlab import (
    ClientPolicy,
    ClosedLoop,
    Experiment,
    MockBackend,
    RetryPolicy,
    ServerModel,
    SettingsError,
    Sweep,
    SweepResult,
)
from llmlab.analysis.sketches import RELATIVE_ERROR
from llmlab.backends.layer import Layer
from llmlab.experiments.runs import Run
from llmlab.experiments.store import RunBatch, Store, run_key

RETRIES = "policy.retry.max_retries"
NAMES = "backend.name"
BASE = Experiment(
    backend=MockBackend(overload_probability=0.3, server=ServerModel(slots=2)), workload=ClosedLoop(calls=12, users=3)
)
SWEEP = Sweep(BASE, {RETRIES: [0, 2], NAMES: ["left", "right"], "policy.attempt_timeout": [None, 2.0]}, replicates=2)


def stored(sweep, path, keep="events"):
    """Run a sweep into a store, in several batches and another order, and load it."""
    store = Store(path)
    planned = [Run(settings, replicate, one.seed, None, run_key(one)) for settings, replicate, one in sweep.runs()]
    made = [(run.key, one.record()) for run, (_, _, one) in zip(planned, sweep.runs(), strict=True)][::-1]
    store.begin(list(planned[0].settings), planned)
    for start in range(0, len(made), 5):
        store.write(RunBatch.of(made[start : start + 5], keep))
    return SweepResult.load(path)


@pytest.fixture(scope="module")
def memory():
    return SWEEP.run(progress=False)


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory):
    return stored(SWEEP, tmp_path_factory.mktemp("results") / "a [dir]'s\"store*")


@pytest.fixture(params=["memory", "on_disk"])
def result(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("frame", ["attempts", "calls", "server"])
def test_the_frames_of_a_stored_result_are_those_of_one_in_memory(memory, on_disk, frame):
    found, expected = getattr(on_disk, frame), getattr(memory, frame)
    assert len(expected) > 100
    pd.testing.assert_frame_equal(found, expected)
    assert list(found.dtypes) == list(expected.dtypes)


def test_the_summary_of_a_stored_result_is_that_of_one_in_memory(memory, on_disk):
    pd.testing.assert_frame_equal(on_disk.summary(), memory.summary())
    pd.testing.assert_frame_equal(on_disk.summary("replicate"), memory.summary("replicate"))
    assert repr(on_disk) == repr(memory)
    assert on_disk._repr_html_() == memory._repr_html_()


def test_sql_counts_what_the_frames_count(result):
    found = result.sql(
        f'select "{RETRIES}" as retries, seed, count(*) n, avg(answered::int) ok from calls group by all'
    )
    expected = result.calls.groupby([RETRIES, "seed"])["answered"].agg(["size", "mean"])
    found = found.sort_values(["retries", "seed"])
    assert list(found["n"]) == list(expected["size"])
    assert list(found["ok"]) == pytest.approx(list(expected["mean"]))
    failed = result.sql("select count(*) from attempts where reason = 'overloaded' and not answered").iloc[0, 0]
    assert failed == (result.attempts["reason"] == "overloaded").sum()
    p95 = result.sql("select quantile_cont(latency_s, 0.95) from attempts").iloc[0, 0]
    assert p95 == pytest.approx(result.attempts["latency_s"].quantile(0.95))
    assert result.sql("select count(*) from server").iloc[0, 0] == len(result.server)
    assert result.sql("select count(*) from runs").iloc[0, 0] == len(result.runs)


def test_sql_joins_attempts_to_their_calls(result):
    joined = result.sql("select count(*) from attempts join calls using (run, layer, call)").iloc[0, 0]
    assert joined == len(result.attempts)


@pytest.mark.parametrize(
    "query",
    [
        "select * from '/etc/passwd'",
        "select * from read_csv('/etc/hostname')",
        "copy calls to 'stolen.csv'",
        "install httpfs",
        "load httpfs",
        "attach 'other.db'",
        "set enable_external_access = true",
        "select * from read_parquet('https://example.invalid/a.parquet')",
    ],
)
def test_a_query_sees_no_file_and_no_network(result, query):
    with pytest.raises(SettingsError, match=r"disabled|locked|does not exist"):
        result.sql(query)


def test_a_query_sees_no_variable_of_the_program(memory):
    secrets = pd.DataFrame({"a": [1]})
    with pytest.raises(SettingsError, match="secrets does not exist"):
        memory.sql("select * from secrets")
    assert len(secrets) == 1


def test_a_wrong_query_is_refused_with_what_there_is(result):
    with pytest.raises(
        SettingsError, match=r"(?s)does not exist.*all_attempts, attempts, all_calls, calls, server and"
    ):
        result.sql("select * from attemps")
    with pytest.raises(SettingsError, match="in double quotes"):
        result.sql("select policy.retry.max_retries from calls")


def test_arrow_tables_hold_the_columns_and_rows_asked_for(result):
    table = result.to_arrow(
        "attempts", columns=["reason", "call"], where={RETRIES: [2], "reason": ["overloaded", None]}
    )
    rows = result.attempts[result.attempts[RETRIES] == 2]
    rows = rows[rows["reason"].isna() | (rows["reason"] == "overloaded")]
    assert table.column_names == [RETRIES, NAMES, "policy.attempt_timeout", "replicate", "seed", "reason", "call"]
    assert table["call"].to_pylist() == list(rows["call"])
    assert set(table["reason"].to_pylist()) == {"overloaded", None}
    half = result.to_arrow("calls", where={NAMES: "left", "policy.attempt_timeout": None, "replicate": 1})
    assert half.num_rows == 2 * 12
    assert result.to_arrow().num_rows == len(result.attempts)
    assert result.to_arrow("calls", where={"attempts": range(2, 9)}).num_rows == (result.calls["attempts"] > 1).sum()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"table": "call"}, "there is no table 'call'; did you mean 'calls'?"),
        ({"columns": ["latency"]}, "attempts have no column 'latency'"),
        ({"where": {"policy.retry.max_retires": 1}}, f"did you mean '{RETRIES}'"),
        ({"columns": [RETRIES]}, f"attempts have no column '{RETRIES}'"),
        ({"where": {"run": 0}}, "attempts have no column 'run'"),
        ({"where": {"ended_at_s": "late"}}, "column 'ended_at_s' holds values of type double"),
        ({"where": {"status_code": [503, 503.5]}}, "column 'status_code' holds values of type int64"),
    ],
)
def test_wrong_names_and_values_of_another_type_are_refused(result, arguments, message):
    with pytest.raises(SettingsError) as caught:
        result.to_arrow(**arguments)
    assert message in str(caught.value)


def test_layers_are_told_apart_in_frames_arrow_and_sql(tmp_path):
    twice = ClientPolicy(retry=RetryPolicy(max_retries=2), total_timeout=None)
    stack = Layer(MockBackend(overload_probability=0.5), twice, name="the sdk's")
    sweep = Sweep(Experiment(backend=stack, policy=twice, workload=ClosedLoop(calls=20)), {"seed": [1, 2]})
    for result in (sweep.run(progress=False), stored(sweep, tmp_path / "store")):
        inside = result.layer("the sdk's")
        assert result.layers == ["the sdk's"]
        assert len(result.calls) == 40 < len(inside.calls)
        for one in (result, inside):
            assert one.to_arrow("calls").num_rows == len(one.calls)
            assert one.sql("select count(*) from calls").iloc[0, 0] == len(one.calls)
        both = len(result.attempts) + len(inside.attempts)
        assert result.sql("select count(*) from all_attempts").iloc[0, 0] == both


def test_a_result_that_kept_calls_only_says_so(tmp_path, memory):
    result = stored(SWEEP, tmp_path / "store", keep="calls")
    pd.testing.assert_frame_equal(result.calls, memory.calls)
    assert "failed_attempts" not in result.summary()
    assert result.summary()["attempts"].sum() == len(memory.attempts)
    for ask in (lambda: result.attempts, lambda: result.server, result.to_arrow):
        with pytest.raises(SettingsError, match=r"stored with keep='calls', which leaves the .* out"):
            ask()
    with pytest.raises(SettingsError, match=r"tables all_calls, calls and runs"):
        result.sql("select * from attempts")


def test_a_result_that_kept_summaries_only_has_the_same_summary_with_percentiles_within_half_a_percent(
    tmp_path, memory
):
    result = stored(SWEEP, tmp_path / "store", keep="summary")
    for by in (None, "replicate", [], [RETRIES, "seed"]):
        found, expected = result.summary(by), memory.summary(by)
        assert list(found.columns) == list(expected.columns)
        estimated = [name for name in expected if re.search(r"_p\d|^generation", name)]
        assert len(estimated) == 18
        pd.testing.assert_frame_equal(found[estimated], expected[estimated], rtol=RELATIVE_ERROR)
        pd.testing.assert_frame_equal(found.drop(columns=estimated), expected.drop(columns=estimated), rtol=1e-12)
    with pytest.raises(KeyError, match="fate"):
        result.summary("fate")
    with pytest.raises(SettingsError, match=r"'summary', which leaves the calls out; there are totals and sketches"):
        result.calls  # noqa: B018
    assert result.sql("select sum(calls) from totals").iloc[0, 0] == len(memory.calls)


@pytest.mark.parametrize("richer", ["events", "calls"])
def test_runs_that_kept_more_are_summarised_with_those_that_did_not(tmp_path, memory, richer):
    some = Sweep(BASE, {RETRIES: [0], NAMES: ["left"], "policy.attempt_timeout": [None, 2.0]}, replicates=2)
    stored(SWEEP, tmp_path / "store", keep="summary")
    stored(some, tmp_path / "store", keep=richer)
    result = stored(SWEEP, tmp_path / "store", keep="summary")
    found, expected = result.summary(), memory.summary()
    assert ("failed_attempts" in found) == (richer == "events")
    pd.testing.assert_frame_equal(found, expected[list(found)], rtol=RELATIVE_ERROR)


def test_layers_are_told_apart_in_summaries(tmp_path):
    twice = ClientPolicy(retry=RetryPolicy(max_retries=2), total_timeout=None)
    stack = Layer(MockBackend(overload_probability=0.5), twice, name="sdk")
    sweep = Sweep(Experiment(backend=stack, policy=twice, workload=ClosedLoop(calls=20)), {"seed": [1, 2]})
    result, expected = stored(sweep, tmp_path, keep="summary"), sweep.run(progress=False)
    assert result.layers == ["sdk"]
    for found, whole in ((result, expected), (result.layer("sdk"), expected.layer("sdk"))):
        pd.testing.assert_frame_equal(found.summary(), whole.summary(), rtol=RELATIVE_ERROR)


def test_the_sweep_that_was_begun_last_is_loaded_with_the_runs_that_are_there(tmp_path):
    first = stored(Sweep(BASE, {RETRIES: [0, 1]}), tmp_path)
    larger = Sweep(BASE, {RETRIES: [0, 1, 5]})
    planned = [Run(settings, 0, one.seed, None, run_key(one)) for settings, _, one in larger.runs()]
    Store(tmp_path).begin([RETRIES], planned)
    result = SweepResult.load(tmp_path)
    assert result.interrupted
    assert (len(result.runs), result.planned) == (2, 3)
    pd.testing.assert_frame_equal(result.calls, first.calls)
    other = stored(Sweep(BASE.replace(seed=5), {RETRIES: [0]}), tmp_path)
    assert set(other.calls["seed"]) == {5}


def test_a_sweep_of_which_nothing_is_there_yet_has_empty_frames(tmp_path):
    Store(tmp_path).begin([RETRIES], [Run({RETRIES: 0}, 0, 0, None, "0" * 32)])
    result = SweepResult.load(tmp_path)
    assert result.interrupted
    assert len(result.calls) == len(result.attempts) == len(result.server) == 0
    assert RETRIES in result.calls
    assert result.sql("select count(*) from calls").iloc[0, 0] == 0


def test_loading_what_is_no_store_says_so_and_makes_nothing(tmp_path):
    with pytest.raises(SettingsError, match="there is no store at"):
        SweepResult.load(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    Store(tmp_path / "empty")
    with pytest.raises(SettingsError, match="no sweep was begun in the store"):
        SweepResult.load(tmp_path / "empty")


def test_a_damaged_page_is_an_error_that_names_the_file_rather_than_a_number(tmp_path):
    result = stored(Sweep(BASE, {RETRIES: [0]}), tmp_path)
    file = next((tmp_path / "data").glob("calls-*"))
    content = bytearray(file.read_bytes())
    content[200] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(OSError, match=rf"{file.name}. Run the sweep again"):
        result.calls  # noqa: B018
    with pytest.raises(SettingsError, match="cannot be answered"):
        result.sql("select sum(ended_at_s), max(reason), sum(call), max(layer) from calls")
