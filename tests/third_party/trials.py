"""A client program on trial: it asks fault servers of which each has its own weather, and each recording is judged.

What a client made of its calls comes from the program itself (`reporting.py`). Programs are run from a copy of the
environment that leads nowhere but to this machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from llmlab import MockBackend
from llmlab.conduct.judge import judge
from llmlab.conduct.recording import Header, Outcome
from llmlab.conduct.standards import Standards
from llmlab.conduct.verdict import Verdict
from llmlab.server.fault_server import FaultServer

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "clients"

DEADLINE_S = 10.0
"""For a call. The programs set a timeout of a second where their client has one: three attempts and backoff are 5 s."""
_TIMEOUT_S = 1.0
_LONGEST_S = 120.0
_CALLS = 2
_LATENCY_S = 0.05


class Weather(NamedTuple):
    """What a server does to every request, and whether it is asked for a stream."""

    settings: dict[str, object]
    stream: bool = True
    silent: bool = False
    """Whether the server stops answering, so that a client without timeouts never comes to the next one."""
    below: str = ""
    """What is put behind the server's address: a path at which it has nothing."""


def always(fault: str, **settings: object) -> dict[str, object]:
    return {f"{fault}_probability": 1.0, **settings}


WEATHERS = {
    "healthy": Weather({}),
    "429, Retry-After 1 s": Weather(always("rate_limit", faults={"retry_after": 1.0})),
    "404": Weather({}, stream=False, below="/nowhere"),
    "503": Weather(always("overload"), stream=False),
    "connection reset": Weather(always("reset"), stream=False),
    "cut, in one piece": Weather(always("cut"), stream=False),
    "cut stream": Weather(always("cut")),
    "error in the stream": Weather(always("error_in_stream")),
    "no end marker": Weather(always("no_end_marker")),
    "content filter": Weather(always("refusal"), stream=False),
    "stream stalls": Weather(always("stall"), silent=True),
    "no answer": Weather(always("timeout"), silent=True),
}


class Seen(NamedTuple):
    """What was seen of a client under one weather."""

    requests_per_call: float
    outcomes: tuple[Outcome, ...]
    verdict: Verdict

    @property
    def said(self) -> str:
        """What the client told its caller."""
        if len(self.outcomes) == 0:
            return "hung"
        return "answered" if any(outcome.outcome == "answered" for outcome in self.outcomes) else "raised"

    def __str__(self) -> str:
        """Return the cell of the table."""
        guilty = f" **{', '.join(self.verdict.guilty)}**" if self.verdict.guilty else ""
        return f"{self.requests_per_call:g}, {self.said}{guilty}"


def put_on_trial(command: list[str]) -> dict[str, Seen]:
    """Run a client program, whose orders are put behind it, under all weathers."""
    together = [name for name, weather in WEATHERS.items() if not weather.silent]
    alone = [[name] for name, weather in WEATHERS.items() if weather.silent]
    return {name: seen for group in (together, *alone) for name, seen in _tried(command, group).items()}


def _backend(name: str) -> MockBackend:
    return MockBackend(**{"latency": _LATENCY_S, **WEATHERS[name].settings})


def _tried(command: list[str], names: list[str]) -> dict[str, Seen]:
    with ExitStack() as running:
        servers = {name: running.enter_context(FaultServer(_backend(name))) for name in names}
        urls = {name: f"{server.url}{WEATHERS[name].below}" for name, server in servers.items()}
        orders = {
            "timeout": _TIMEOUT_S,
            "calls": 1 if WEATHERS[names[0]].silent else _CALLS,
            "servers": [{"url": urls[name], "model": "tiny", "stream": WEATHERS[name].stream} for name in names],
        }
        lines = _output_of([*command, json.dumps(orders)], list(servers.values()))
        for server in servers.values():
            server.wait_until_closed()
    return {name: _seen(servers[name], [line for line in lines if line["url"] == urls[name]]) for name in names}


def _output_of(command: list[str], servers: list[FaultServer]) -> list[dict[str, object]]:
    """Run a program until it ends or has held a single server beyond the deadline; return what it reported."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it is asked for over the network
        "PYTHONPATH": str(ROOT),
    }
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    began, asked_at = time.monotonic(), None
    output = ""
    while True:
        now = time.monotonic()
        if asked_at is None and any(server.connections for server in servers):
            asked_at = now
        held = len(servers) == 1 and asked_at is not None and now - asked_at > DEADLINE_S + 1.0
        if held or now - began > _LONGEST_S:
            process.kill()
        try:
            output, complaint = process.communicate(timeout=0.2)
            break
        except subprocess.TimeoutExpired:
            continue
    assert process.returncode in {0, -9}, complaint
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def _seen(server: FaultServer, lines: list[dict[str, object]]) -> Seen:
    recording = server.recording()
    outcomes = tuple(_on_the_clock_of(recording.header, line) for line in lines)
    verdict = judge(recording, Standards(deadline=DEADLINE_S, client_ended=True), outcomes=outcomes)
    requests = sum(1 for request in recording.requests if request.digest)
    return Seen(requests / max(len(outcomes), 1), outcomes, verdict)


def _on_the_clock_of(header: Header, line: dict[str, object]) -> Outcome:
    times = {f"{name}_s": float(str(line[name])) - header.started_at for name in ("started_at", "ended_at")}
    return Outcome(outcome=line["outcome"], error=line.get("error", ""), **times)


def python_program(name: str) -> list[str]:
    return [sys.executable, str(PROGRAMS / f"{name}.py")]
