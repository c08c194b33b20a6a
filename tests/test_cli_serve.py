import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from llmlab.cli import exit_code
from llmlab.conduct.recording_file import read_recording


@contextmanager
def serving(*options: str, cwd=None) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command on a free port; give the process and the address that it says."""
    command = [sys.executable, "-m", "llmlab", "serve", "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd)
    try:
        first = process.stdout.readline()
        yield process, re.search(r"http://\S+:\d+", first)[0]
    finally:
        process.kill()
        process.communicate()


def test_it_serves_until_ctrl_c_says_where_and_records(tmp_path):
    file = tmp_path / "conduct.jsonl"
    with serving("--overload-probability", "1", "--seed=7", "--record", str(file)) as (process, url):
        with httpx.Client(trust_env=False) as client:
            assert client.post(f"{url}/api/generate", json={"model": "m", "prompt": "Hello"}).status_code == 503
            state = client.get(f"{url}/__llmlab__/state").json()
        process.send_signal(signal.SIGINT)
        process.wait(30)
        # Not `communicate`: it reads past what `readline` above has taken in beyond the first line.
        said, complaints = process.stdout.read(), process.stderr.read()
    assert process.returncode == 130
    assert complaints == "llmlab: interrupted\n"
    assert f"OLLAMA_HOST={url}\n" in said
    assert f"OPENAI_BASE_URL={url}/v1" in said
    assert state["seed"] == 7
    recording = read_recording(file)
    assert [(request.fault, request.status) for request in recording.requests] == [("overload", 503)]
    assert recording.ended_at_s is not None


def test_the_signal_that_ends_background_jobs_ends_it_in_order(tmp_path):
    file = tmp_path / "conduct.jsonl"
    with serving("--record", str(file)) as (process, url):
        assert httpx.get(url, trust_env=False).text == "Ollama is running"
        process.terminate()
        process.wait(30)
        assert process.stderr.read() == "llmlab: terminated\n"
    assert process.returncode == 143
    assert read_recording(file).ended_at_s is not None


def test_a_killed_server_leaves_a_recording_that_can_be_read(tmp_path):
    file = tmp_path / "conduct.jsonl"
    with serving("--record", str(file)) as (process, url):
        assert httpx.get(url, trust_env=False).text == "Ollama is running"
        process.kill()
        process.communicate()
    recording = read_recording(file)
    assert [request.endpoint for request in recording.requests] == ["/"]
    assert recording.ended_at_s is None


def test_the_settings_of_a_file_are_changed_by_the_options(tmp_path):
    written = "[base.backend]\nseed = 3\nlatency = 0.01\noverload_probability = 0.5\n"  # as in a sweep's file
    (tmp_path / "weather.toml").write_text(written)
    options = ["--backend", "weather.toml", "--profile", "ollama", "--overload-probability", "0.25"]
    with serving(*options, cwd=tmp_path) as (_, url):
        weather = httpx.get(f"{url}/__llmlab__/weather", trust_env=False).json()
    assert (weather["seed"], weather["latency"], weather["faults"]["overload"]) == (
        3,
        {"kind": "constant", "value": 0.01},
        0.25,
    )
    assert weather["server"]["load_queue"] == 512


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--timeout-probability", "2"], "timeout_probability must be 1 or less, got 2"),
        (["--timeout-probability", "x"], "--timeout-probability must be a number from 0 to 1, got 'x'"),
        (["--timeout-probability"], "--timeout-probability needs a probability"),
        (["--timeout-probabilty", "0.2"], "did you mean '--timeout-probability'?"),
        (["--profile", "olama"], "there is no profile 'olama'; did you mean 'ollama'?"),
        (["--backend", "nosuch.toml"], "nosuch.toml: cannot be read: No such file or directory"),
        (["--host", "192.0.2.1"], "--host: '192.0.2.1' is no address of this machine"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_and_ends_with_2(options, complaint, capsys):
    assert exit_code(["serve", "--port", "0", *options]) == 2
    assert complaint in capsys.readouterr().err


def test_a_file_of_another_backend_or_with_a_wrong_setting_is_refused_by_its_name(tmp_path, capsys):
    other, wrong = tmp_path / "other.json", tmp_path / "wrong.json"
    other.write_text(json.dumps({"kind": "ollama"}))
    wrong.write_text(json.dumps({"base": {"backend": {"latensy": 1}}}))
    assert exit_code(["serve", "--backend", str(other)]) == 2
    assert exit_code(["serve", "--backend", str(wrong)]) == 2
    said = capsys.readouterr().err
    assert "other.json: the fault server simulates, so the kind must be 'mock', got 'ollama'" in said
    assert "wrong.json: MockBackend has no setting 'latensy'; did you mean 'latency'?" in said


def test_a_port_that_is_taken_is_said_with_what_to_do_and_no_recording_is_begun(tmp_path, capsys):
    file = tmp_path / "conduct.jsonl"
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert exit_code(["serve", "--port", str(port), "--record", str(file)]) == 2
    assert f"--port: {port} is taken on 127.0.0.1; name another, or --port 0" in capsys.readouterr().err
    assert exit_code(["serve", "--port", "99999"]) == 2
    assert "must be from 0 to 65535, got 99999" in capsys.readouterr().err
    assert not file.exists()


def test_a_server_for_everybody_is_warned_of(capsys):
    with serving("--host", "0.0.0.0") as (process, url):
        assert url.startswith("http://127.0.0.1:")
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=30)
    assert complaints.startswith("llmlab: warning: on 0.0.0.0 everybody who reaches this machine")
