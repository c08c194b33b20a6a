import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from llmlab import (
    Answer,
    AsyncMockLLM,
    AttemptEvent,
    Backoff,
    CallEvent,
    EventLog,
    Fate,
    JsonLinesObserver,
    LLMRequest,
    LoggingObserver,
    MockLLM,
)
from llmlab.core.vocabulary import FailureReason
from llmlab.observers import read_json_lines
from llmlab.virtual_time import run

ROOT = Path(__file__).parents[1]


def traffic(*observers, calls=3, **settings):
    defaults = {"script": ["overload"], "backoff": Backoff(base=1, jitter="none"), "latency": 1.0}
    with MockLLM(observers=observers, **{**defaults, **settings}) as llm:
        return [llm.generate("Hello") for _ in range(calls)]


# ---- JSON lines


def test_events_come_back_from_the_file_as_they_were(tmp_path):
    path, log = tmp_path / "deep" / "events.jsonl", EventLog()
    with JsonLinesObserver(path) as observer:
        traffic(observer, log)
    events = list(read_json_lines(path))
    for written, kept in ((AttemptEvent, log.attempts), (CallEvent, log.calls)):
        assert comparable(event for event in events if type(event) is written) == comparable(kept)


def comparable(events):
    """NaN equals nothing, not even itself; `None` does. A word of a vocabulary equals its text, but is shown as one."""
    shown = [tuple(repr(value) if isinstance(value, str) else value for value in event) for event in events]
    return [tuple(None if value != value else value for value in event) for event in shown]  # noqa: PLR0124


def test_each_event_is_one_line_of_json_with_its_kind(tmp_path):
    with JsonLinesObserver(tmp_path / "a") as observer:
        traffic(observer, calls=1)
    lines = [json.loads(line) for line in (tmp_path / "a").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["attempt", "attempt", "call"]
    assert lines[0]["reason"] == "overloaded"
    assert lines[1]["reason"] is None


def test_an_existing_file_is_continued(tmp_path):
    for _ in range(2):
        with JsonLinesObserver(tmp_path / "a") as observer:
            traffic(observer, calls=1)
    assert len(list(read_json_lines(tmp_path / "a"))) == 6


@pytest.mark.parametrize("torn", [b'{"event":"att', b"\xff\xfe", b'{"event":"call","layer":"\xc3'])
def test_a_line_torn_by_a_crash_costs_that_line_only(tmp_path, torn):
    path = tmp_path / "a"
    with JsonLinesObserver(path) as observer:
        traffic(observer, calls=1)
    with path.open("ab") as file:
        file.write(torn)
    assert len(list(read_json_lines(path))) == 3
    with JsonLinesObserver(path) as observer:
        traffic(observer, calls=1)
    assert len(list(read_json_lines(path))) == 6


def test_every_event_is_in_the_file_the_moment_it_has_happened(tmp_path):
    seen = []

    class Reader:
        def on_attempt(self, event):
            seen.append(len(list(read_json_lines(tmp_path / "a"))))

        on_call = on_attempt

    with JsonLinesObserver(tmp_path / "a") as observer:
        traffic(observer, Reader(), calls=1)
    assert seen == [1, 2, 3]


@pytest.mark.parametrize("line", ['{"event":"other"}', "[]", '{"event":"call","layer":"a"}', "5"])
def test_a_whole_line_that_is_no_event_is_named(tmp_path, line):
    (tmp_path / "a").write_text(f"\n{line}\n")
    with pytest.raises(ValueError, match="a, line 2: no event of llmlab"):
        list(read_json_lines(tmp_path / "a"))


def test_several_processes_write_whole_lines_into_one_file(tmp_path):
    code = f"""
from llmlab import MockLLM, JsonLinesObserver
with JsonLinesObserver({str(tmp_path / "a")!r}) as observer:
    MockLLM(observers=[observer]).generate_many(["Hello"] * 200)
"""
    command = [sys.executable, "-c", code]
    processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0] * 3
    lines = (tmp_path / "a").read_text().splitlines()
    assert len([json.loads(line) for line in lines]) == len(list(read_json_lines(tmp_path / "a"))) == 1200


def test_a_closed_observer_is_reported_and_breaks_nothing(tmp_path, caplog):
    observer = JsonLinesObserver(tmp_path / "a")
    observer.close()
    observer.close()
    assert traffic(observer)[0].ok
    assert len(caplog.records) == 1
    assert "is closed" in caplog.text


def test_a_file_that_cannot_be_opened_is_an_error_at_once(tmp_path):
    with pytest.raises(OSError):
        JsonLinesObserver(tmp_path)


# ---- logging


def test_each_kind_of_event_has_its_level(caplog):
    with caplog.at_level(logging.DEBUG, logger="llmlab"):
        traffic(LoggingObserver(), calls=1)
        traffic(LoggingObserver(), calls=1, script=["overload"] * 3)
    assert [(record.levelname, record.name) for record in caplog.records] == [
        ("INFO", "llmlab"),
        ("DEBUG", "llmlab"),
        ("DEBUG", "llmlab"),
        ("INFO", "llmlab"),
        ("INFO", "llmlab"),
        ("INFO", "llmlab"),
        ("WARNING", "llmlab"),
    ]
    messages = [record.getMessage() for record in caplog.records]
    assert messages[0] == "call 0 attempt 1 on mock failed after 0.020 s: overloaded; next in 1.000 s (backoff)"
    assert messages[1] == "call 0 attempt 2 on mock answered in 1.000 s"
    assert messages[2] == "call 0 answered in 2.020 s, attempts: 2"
    assert messages[6] == "call 0 not answered in 3.060 s: overloaded (retries_exhausted), attempts: 3"


def test_no_handler_is_installed():
    traffic(LoggingObserver())
    assert logging.getLogger("llmlab").handlers == []
    assert logging.getLogger("llmlab").level == logging.NOTSET


# ---- privacy


class Pet(BaseModel):
    name: int


@pytest.mark.parametrize("fault", [None, "empty", "malformed", "truncated", "timeout", "overload", "server_error"])
@pytest.mark.parametrize("response_format", [None, "json", Pet, Pet.model_json_schema()])
def test_no_prompt_and_no_output_stands_in_events_logs_or_failures(fault, response_format, tmp_path, caplog):
    prompt, output = "PROMPT-CANARY", '{"name": "OUTPUT-CANARY", "OUTPUT-CANARY": 1}'
    log = EventLog()
    request = LLMRequest(
        prompt=prompt, system=prompt, stop=prompt, metadata={"a": prompt}, response_format=response_format, seed=1
    )
    with caplog.at_level(logging.DEBUG), JsonLinesObserver(tmp_path / "a") as file:

        async def main():
            llm = AsyncMockLLM(
                observers=[log, file, LoggingObserver()],
                script=[fault or Answer(output)] * 3,
                text=output,
                attempt_timeout=2.0,
            )
            return await llm.generate(request)

        result = run(main())
    everything = [repr(log.attempts), repr(log.calls), (tmp_path / "a").read_text(), caplog.text]
    if not result.ok:
        everything += [repr(result), str(result), result.message, result._repr_html_()]
        with pytest.raises(RuntimeError) as caught:
            result.unwrap()
        everything.append(str(caught.value))
    assert "CANARY" not in "".join(everything)
    assert log.calls[0].fate in set(Fate)
    assert result.ok or result.reason in set(FailureReason)
