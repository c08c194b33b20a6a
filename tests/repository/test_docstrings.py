"""Every code example in a docstring runs. What they speak of and do not make (`result`, `base`) is in `names`.

An example is a paragraph that is indented. Those with `>>>` are the charts', which tests/plots/test_examples.py runs.
"""

import ast
import asyncio
import importlib
import inspect
import re
from pathlib import Path
from typing import NamedTuple

import httpx
import openai
import pytest

import llmlab
from llmlab import (
    SLO,
    AsyncMockLLM,
    ClientPolicy,
    Experiment,
    FaultServer,
    JsonLinesObserver,
    MockBackend,
    MockLLM,
    OpenLoop,
    ServerModel,
    Sweep,
    analysis,
    plots,
    recommend,
    virtual_time,
)
from llmlab.conduct import recording
from llmlab.conduct.judge import Standards, judge
from llmlab.conduct.recording_file import RecordingWriter, read_recording
from llmlab.server.replay import ReplayServer
from llmlab.wire.exchange import HTTPRequest

ROOT = Path(__file__).parents[2]

NO_CODE = {
    "llmlab": "the map",
    "llmlab.experiments.store.store": "a tree of folders",
}
"""Indented paragraphs that are no Python."""

ONLY_COMPILED = {
    "llmlab.backends.openai": "a server at this address",
    "llmlab.experiments.storm_map.storm_map": "some minutes; the README has a small one that runs",
    "llmlab.experiments.verify": "a dozen seconds; tests/experiments/test_verify.py runs it smaller",
    "llmlab.server.fault_server": "arguments, which are left out as '...'",
    "llmlab.server.pytest_plugin": "pytest around it, and a client to be tested",
    "llmlab.virtual_time.pytest_plugin": "pytest around it",
}
"""Examples that need what they name here."""


class Example(NamedTuple):
    module: str
    where: str  # the full name of what has the docstring
    code: str


def paragraphs(docstring: str) -> list[str]:
    """Return the indented paragraphs; those that follow each other are one."""
    text = inspect.cleandoc(docstring) + "\n\n"
    found = re.findall(r"(?:(?<=\n\n)|\A)(?= {4}\S)((?:(?: {4}.*)?\n)+)", text)
    return [inspect.cleandoc("\n" + each) for each in found]


def examples() -> list[Example]:
    found = []
    for path in sorted((ROOT / "llmlab").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found += [
            Example(module, where, code)
            for where, docstring in docstrings(ast.parse(path.read_text(encoding="utf-8")), module)
            for code in paragraphs(docstring)
        ]
    return found


def docstrings(node, name):
    """Yield the docstrings of a module and all that is in it, each with its full name."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        if docstring := ast.get_docstring(node, clean=False):
            yield name, docstring
        for child in node.body:
            yield from docstrings(child, f"{name}.{getattr(child, 'name', '')}")


EXAMPLES = examples()
ALSO_AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


def is_code(text: str) -> bool:
    try:
        return bool(compile(text, "example", "exec", ALSO_AWAIT))
    except SyntaxError:
        return False


def files_for_examples(folder: Path) -> None:
    """Write the files that examples read: recorded events, a recording of a server, prompts and arrivals."""
    for name, users in (("events.jsonl", 1), ("other.jsonl", 2)):
        with JsonLinesObserver(folder / name) as observer:
            backend = MockBackend(server=ServerModel.profile("ollama", slots=1))
            MockLLM(server=backend.server, observers=[observer]).generate_many(["Hello"] * 20, concurrency=users)
    with RecordingWriter(folder / "conduct.jsonl", recording.Header(seed=7)) as write:
        write(recording.ConnectionOpened(connection=0, at_s=0.1))
    (folder / "prompts.jsonl").write_text('"Hello"\n', encoding="utf-8")
    (folder / "calls.csv").write_text("arrived_at_s\n0.5\n1.5\n", encoding="utf-8")


@pytest.fixture(scope="module")
def names():
    """What examples speak of and do not make."""
    base = Experiment(
        backend=MockBackend(server=ServerModel(slots=2)),
        policy=ClientPolicy(max_concurrency=4, max_queue=10),
        workload=OpenLoop(rate=4, calls=20),
    )
    grid = {"policy.retry.max_retries": [0, 2]}
    result = Sweep(base, grid, replicates=2).run(progress=False)

    async def nothing():
        await asyncio.sleep(1)

    return {
        "ConnectionOpened": recording.ConnectionOpened,
        "Hosted": MockBackend(),
        "LocalModel": MockBackend(),
        "asyncio": asyncio,
        "backend": MockBackend(),
        "base": base,
        "calls": result.calls,
        "experiment": base,
        "grid": grid,
        "httpx": httpx,
        "main": nothing,
        "openai": openai,
        "plots": plots,
        "read_recording": read_recording,
        "recommendation": recommend(result, SLO(success_rate=0.1)),
        "request": HTTPRequest("GET", "/api/tags", (), b""),
        "result": result,
        "run": virtual_time.run,
        "server": MockBackend(),
        "storm": nothing,
        "table": analysis.summary(result.calls, by="policy.retry.max_retries"),
    }


@pytest.mark.parametrize("example", [pytest.param(each, id=each.where) for each in EXAMPLES if is_code(each.code)])
def test_an_example_runs(example, names, tmp_path, monkeypatch):
    code = compile(example.code, example.where, "exec", ALSO_AWAIT)
    if example.where in ONLY_COMPILED:
        return
    files_for_examples(tmp_path)
    monkeypatch.chdir(tmp_path)
    own = {"fault_server": None, "verdict": judge(read_recording("conduct.jsonl"), Standards(deadline=10.0))}
    known = {name: getattr(llmlab, name) for name in llmlab.__all__}
    scope = known | vars(importlib.import_module(example.module)) | names | own
    with ReplayServer() as ollama, FaultServer(MockBackend()) as fault_server:
        monkeypatch.setenv("OLLAMA_HOST", ollama.url)
        scope["fault_server"] = fault_server
        if code.co_flags & inspect.CO_COROUTINE:
            scope["llm"] = AsyncMockLLM()
            virtual_time.run(eval(code, scope))
        else:
            scope["llm"] = MockLLM()
            exec(code, scope)


def test_what_is_no_code_and_what_does_not_run_is_listed():
    assert {each.where for each in EXAMPLES if not is_code(each.code)} == set(NO_CODE)
    assert set(ONLY_COMPILED) <= {each.where for each in EXAMPLES}


def test_only_charts_have_examples_with_a_prompt():
    prompted = [path for path in (ROOT / "llmlab").rglob("*.py") if ">>> " in path.read_text(encoding="utf-8")]
    assert {path.parent.name for path in prompted} == {"plots"}


def test_the_reader_of_docstrings_finds_code_and_leaves_sections_alone():
    docstring = """Do it.

        one()

        two()

    Args:
        a: what
            it is.
    """
    assert paragraphs(docstring) == ["one()\n\ntwo()"]
