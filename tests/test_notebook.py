"""In a real kernel: plain calls and `await` in cells, the interrupt button, and `asyncio.run` where it is asked for."""

import asyncio
import os
import sys
import types
from pathlib import Path

import pytest
from jupyter_client.manager import start_new_kernel

from llmlab import SettingsError
from llmlab.notebook import enable_nested_asyncio
from llmlab.virtual_time import run

ROOT = Path(__file__).parents[1]
PATIENCE = 60  # seconds for one message; a kernel that has hung must not take the whole timeout


IMPORTS = """
import asyncio
from llmlab import (
    Answer, AsyncMockLLM, Client, ClientPolicy, ClosedLoop, EventLog, Experiment, MockLLM, Sweep, virtual_time
)
from llmlab.notebook import enable_nested_asyncio
"""


class Kernel:
    """A kernel to run cells in; what a cell writes, shows or raises is its output."""

    def __init__(self, folder):
        env = {**os.environ, "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(folder)}
        self.manager, self.client = start_new_kernel(kernel_name="python3", env=env, startup_timeout=PATIENCE)

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def run(self, code, interrupt_at=None, after=()):
        """Run a cell; press the interrupt button once it has written the text `interrupt_at`.

        The cells `after` are sent before it, without waiting for them, as "Run all" does.
        """
        for earlier in after:
            self.client.execute(earlier)
        cell, said = self.client.execute(code), ""
        while True:
            message = self.client.get_iopub_msg(timeout=PATIENCE)
            kind, content = message["msg_type"], message["content"]
            if message["parent_header"].get("msg_id") != cell:
                continue
            if kind == "stream":
                said += content["text"]
            elif kind == "execute_result":
                said += content["data"]["text/plain"]
            elif kind == "error":
                said += f"{content['ename']}: {content['evalue']}"
            elif kind == "status" and content["execution_state"] == "idle":
                return said
            if interrupt_at is not None and interrupt_at in said:
                self.manager.interrupt_kernel()
                interrupt_at = None


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    kernel = Kernel(tmp_path_factory.mktemp("ipython"))
    assert kernel.run(IMPORTS) == ""
    yield kernel
    kernel.close()


PLAIN_CALLS = {
    "a simulated call": "MockLLM().generate('Hello').ok",
    "a call that takes real time": "MockLLM(latency=0.01, real_time=True).generate('Hello').ok",
    "many calls": "all(each.ok for each in MockLLM().generate_many(['a', 'b']))",
    "a stream": "MockLLM().stream('Hello').__enter__().__next__() != ''",
    "an experiment": "len(Experiment(workload=ClosedLoop(calls=3)).run().calls) == 3",
    "a sweep": "len(Sweep(Experiment(workload=ClosedLoop(calls=3)), {'seed': [1, 2]}).run(progress=False).calls) == 6",
    "virtual time": "virtual_time.run(AsyncMockLLM().generate('Hello')).ok",
}
AWAITED = {
    "a call": "(await AsyncMockLLM(latency=0.01).generate('Hello')).ok",
    "many calls": "all(each.ok for each in await AsyncMockLLM(latency=0.01).generate_many(['a', 'b']))",
    "a sweep": "len((await Sweep(Experiment(workload=ClosedLoop(calls=3))).run_async(progress=False)).calls) == 3",
}


@pytest.mark.parametrize("what", PLAIN_CALLS)
def test_plain_calls_work_in_a_cell_as_they_stand(kernel, what):
    assert kernel.run(PLAIN_CALLS[what]) == "True"


@pytest.mark.parametrize("what", AWAITED)
def test_await_works_in_a_cell(kernel, what):
    assert kernel.run(AWAITED[what]) == "True"


ENDLESS = """
class Endless:
    simulated = False

    async def attempt(self, request, *, timeouts, key):
        if request.prompt == "short":
            return Answer("done")
        print("asked", flush=True)
        await asyncio.sleep(3600)

log = EventLog()
llm = Client(Endless(), ClientPolicy(attempt_timeout=None, total_timeout=None), observers=[log])
llm.generate("short").text
"""


def test_the_interrupt_button_stops_a_blocking_call_and_keeps_what_was_done(kernel):
    assert kernel.run(ENDLESS) == "'done'"
    said = kernel.run("llm.generate('long')", interrupt_at="asked")
    assert "KeyboardInterrupt" in said
    assert kernel.run("[str(call.fate) for call in log.calls]") == "['answered', 'cancelled']"
    assert kernel.run("llm.state.calls_in_progress, llm.generate('short').text") == "(0, 'done')"


FIRST_ATTEMPT = """
class FirstAttempt:
    def on_attempt(self, event):
        if event.attempt == 1:
            print("begun", flush=True)

    def on_call(self, event): ...

hopeless = MockLLM(timeout_probability=1.0, max_retries=10**9, total_timeout=None, observers=[FirstAttempt()])
"""


def test_the_interrupt_button_stops_a_simulated_call(kernel):
    kernel.run(FIRST_ATTEMPT)
    assert "KeyboardInterrupt" in kernel.run("hopeless.generate('Hello')", interrupt_at="begun")
    assert kernel.run("MockLLM().generate('Hello').ok") == "True"


@pytest.mark.parametrize("workers", [1, 2], ids=["in the kernel", "in worker processes"])
def test_the_interrupt_button_stops_a_sweep_which_keeps_what_is_finished(kernel, workers):
    kernel.run("sweep = Sweep(Experiment(), {'workload.calls': [10, 10**8]})")
    said = kernel.run(
        f"result = sweep.run(workers={workers}, progress=False, on_point=lambda run: print('a point'))",
        interrupt_at="a point",
    )
    assert said.strip() == "a point"
    assert kernel.run("result.interrupted, len(result.calls)") == "(True, 10)"


def test_asyncio_run_works_in_a_cell_once_it_is_enabled_and_llmlab_goes_on_as_before(kernel):
    kernel.run(ENDLESS)
    assert kernel.run("hasattr(asyncio, '_nest_patched')") == "False", "nothing is patched before"
    assert "RuntimeError: asyncio.run() cannot be called" in kernel.run("asyncio.run(asyncio.sleep(0))")
    assert kernel.run("enable_nested_asyncio()").startswith("patched by nest_asyncio2: the variant that is safe on ipy")
    assert kernel.run("enable_nested_asyncio()") == "patched by nest_asyncio2: it already was"
    assert kernel.run("asyncio.run(AsyncMockLLM(latency=0.01).generate('Hello')).ok") == "True"
    assert kernel.run("asyncio.run(asyncio.sleep(0.01, 'and again'))") == "'and again'"
    nested = "asyncio.run(asyncio.sleep(0.05))"
    assert kernel.run("'the last of all'", after=[nested, "await asyncio.sleep(0.01)", nested]) == "'the last of all'"
    for code in (*PLAIN_CALLS.values(), *AWAITED.values()):
        assert kernel.run(code) == "True", code
    assert "KeyboardInterrupt" in kernel.run("llm.generate('long')", interrupt_at="asked")
    assert kernel.run("llm.generate('short').text") == "'done'"


class TestOutsideThisKernel:
    def test_a_plain_program_needs_no_patch(self):
        done = enable_nested_asyncio()
        assert done.module is None
        assert repr(done) == "nothing patched: no event loop is running here, so asyncio.run works as it is"
        assert not hasattr(asyncio, "_nest_patched")

    def test_a_coroutine_outside_a_notebook_is_told_to_await(self):
        async def main():
            enable_nested_asyncio()

        with pytest.raises(SettingsError, match=r"not that of an ipykernel.*await the coroutine"):
            run(main())

    @pytest.mark.parametrize(
        ("version", "missing", "message"),
        [
            ("7.4.0", "nest_asyncio2", 'ipykernel 7.4.0 needs nest-asyncio2, .*: pip install "nest-asyncio2"'),
            ("6.29.5", "nest_asyncio", 'ipykernel 6.29.5 needs nest-asyncio, .*: pip install "nest-asyncio"'),
        ],
    )
    def test_what_is_missing_is_named_with_its_remedy(self, monkeypatch, version, missing, message):
        self.in_ipykernel(monkeypatch, version)
        monkeypatch.setitem(sys.modules, missing, None)
        with pytest.raises(SettingsError, match=message):
            enable_nested_asyncio()

    @pytest.mark.parametrize(("version", "variant"), [("6.29.5", "nest_asyncio"), ("7.0.0", "nest_asyncio2")])
    def test_each_ipykernel_gets_the_variant_that_is_safe_on_it(self, monkeypatch, version, variant):
        self.in_ipykernel(monkeypatch, version)
        applied = []
        monkeypatch.setitem(sys.modules, variant, types.SimpleNamespace(apply=applied.append))
        assert enable_nested_asyncio().module == variant
        assert applied == [None]

    @pytest.mark.parametrize(
        ("found", "refused"), [("1.7.2", True), ("1.7.3", False), ("1.10.0", False), ("2.0", False)]
    )
    def test_a_release_that_stops_at_queued_cells_is_refused(self, monkeypatch, found, refused):
        self.in_ipykernel(monkeypatch, "7.4.0")
        applied = []
        monkeypatch.setitem(sys.modules, "nest_asyncio2", types.SimpleNamespace(apply=applied.append))
        monkeypatch.setattr("llmlab.notebook.version", lambda _: found)
        if refused:
            with pytest.raises(SettingsError, match=r'hangs ipykernel 7.4.0 on "Run all"; pip install .*>=1.7.3'):
                enable_nested_asyncio()
        else:
            enable_nested_asyncio()
        assert len(applied) == (not refused)

    def test_nest_asyncio_already_at_work_on_a_kernel_that_it_hangs_is_said(self, monkeypatch):
        self.in_ipykernel(monkeypatch, "7.4.0")
        monkeypatch.setattr(asyncio, "_nest_patched", True, raising=False)
        with pytest.raises(SettingsError, match=r"hangs JupyterLab on ipykernel 7.4.0; .* restart the kernel"):
            enable_nested_asyncio()

    def in_ipykernel(self, monkeypatch, version):
        shell = types.SimpleNamespace(kernel=object())
        monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
        monkeypatch.setitem(sys.modules, "ipykernel", types.SimpleNamespace(__version__=version))
