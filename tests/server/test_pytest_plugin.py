import subprocess
import sys

import httpx
import pytest

ASK = {"model": "m", "prompt": "Hello"}


def ask(server) -> int:
    return httpx.post(f"{server.url}/api/generate", json=ASK, trust_env=False).status_code


def test_the_fixture_is_a_healthy_server_until_told_otherwise(fault_server):
    assert ask(fault_server) == 200
    fault_server.weather(overload_probability=1.0)
    assert ask(fault_server) == 503
    assert fault_server.wait_for_requests(2)
    assert [request.status for request in fault_server.requests] == [200, 503]
    verdict = fault_server.verdict(deadline=60.0, client_ended=True)
    assert verdict.passed, str(verdict)


@pytest.mark.fault_server(rate_limit_probability=1.0, seed=7)
def test_a_mark_sets_the_weather(fault_server):
    assert ask(fault_server) == 429
    assert fault_server.backend.seed == 7


def test_the_plugin_alone_loads_neither_a_server_nor_pydantic():
    script = "import sys, llmlab.server.pytest_plugin; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert {"asyncio", "h11", "httpx", "pydantic", "llmlab.server.fault_server"} & set(run.stdout.split()) == set()
