"""Where things go on the network: servers listen on this machine alone, and requests go to nobody but who was named."""

import asyncio
import inspect
import re
import socket
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

import llmlab
from llmlab import AsyncLocalLLM, AsyncOpenAILLM, FaultServer, LocalLLM, OpenAILLM
from llmlab.cli import app
from llmlab.server.replay import ReplayServer
from tests.ollama_replay import answer, tags
from tests.security.canaries import KEY
from tests.security.meetings import PROMPT


@pytest.fixture
def listener():
    """Another host, as far as a redirect is concerned; nobody may come."""
    with socket.create_server(("127.0.0.2", 0)) as other:
        other.settimeout(0.2)
        yield other


def nobody_came(listener):
    with pytest.raises(TimeoutError):
        listener.accept()
    return True


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_a_redirect_to_another_host_is_not_followed_with_or_without_the_key(monkeypatch, listener, status):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    host, port = listener.getsockname()
    away = (("Location", f"http://{host}:{port}/v1/chat/completions"),)
    paths = [("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("POST", "/api/generate"), ("GET", "/api/tags")]
    moved = [answer(status=status, headers=away, path=path, method=method) for method, path in paths]
    with ReplayServer(moved) as server:
        results = asyncio.run(asked_in_all_ways(server))
        description = LocalLLM(base_url=server.url).describe()
    assert [result.reason for result in results] == ["invalid_request"] * 6
    assert {result.status_code for result in results} == {int(status.split()[0])}
    assert all("redirects, which is not followed" in result.message for result in results)
    assert description.problems
    assert nobody_came(listener)


async def asked_in_all_ways(server):
    """Ask for a model first or not, over llmlab's connections and over those of a client that would follow."""
    results = []
    async with httpx.AsyncClient(follow_redirects=True, trust_env=False) as own:
        for settings in ({}, {"model": "m"}, {"model": "m", "http_client": own}):
            async with AsyncOpenAILLM(base_url=f"{server.url}/v1", max_retries=0, **settings) as llm:
                results.append(await llm.generate(PROMPT))
            async with AsyncLocalLLM(base_url=server.url, max_retries=0, **settings) as llm:
                results.append(await llm.generate(PROMPT))
    return results


def test_a_redirect_of_a_real_server_is_passed_on_by_the_fault_server_and_not_followed(listener):
    host, port = listener.getsockname()
    moved = answer(status="307 Temporary", headers=(("Location", f"http://{host}:{port}/"),))
    with ReplayServer([moved, tags("m")]) as real, FaultServer(upstream=real.url) as front:
        sent = {"authorization": f"Bearer {KEY}"}
        found = httpx.post(f"{front.url}/api/generate", json={"model": "m"}, headers=sent, trust_env=False)
    assert found.status_code == 307
    assert nobody_came(listener)


def test_the_key_goes_to_the_server_that_was_named_and_not_to_ollama(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with ReplayServer() as server:
        LocalLLM(base_url=server.url, model="tiny").generate("Hello")
        OpenAILLM(base_url=server.url, model="tiny", max_retries=0).generate("Hello")
        sent = [request.headers.get("authorization") for request in server.received]
    assert sent == [None, f"Bearer {KEY}"]


def test_every_server_listens_on_this_machine_alone_unless_told_otherwise():
    for server in (FaultServer(), ReplayServer()):
        with server:
            assert server._listener.getsockname()[0] == "127.0.0.1"
    assert inspect.signature(FaultServer).parameters["host"].default == "127.0.0.1"
    told = CliRunner().invoke(app, ["serve", "--help"])
    assert "127.0.0.1" in told.output


def test_nothing_in_the_package_binds_a_socket_but_the_hosted_servers():
    package = Path(llmlab.__file__).parent
    ways = (r"bind\(\(", r"create_server\(", r"start_server\(", r"start_unix_server\(", r"create_datagram_endpoint\(")
    binds = re.compile(rf"\.(?:{'|'.join(ways)})")
    binding = [file for file in package.rglob("*.py") if binds.search(file.read_text(encoding="utf-8"))]
    found = sorted(file.relative_to(package).as_posix() for file in binding)
    assert found == ["cli/jupyter.py", "server/hosting.py"]  # the first only tries whether a port of loopback is free
