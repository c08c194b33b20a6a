"""A pytest fixture, `fault_server`: a misbehaving model server on loopback, for tests of anybody's client.

    def test_my_client_waits_as_long_as_it_is_asked_to(fault_server):
        fault_server.weather(rate_limit_probability=1.0)
        MyClient(base_url=fault_server.openai_url).ask("Hello")
        first, second = fault_server.requests
        assert second.arrived_at_s - first.ended_at_s >= 1.0
        assert (verdict := fault_server.verdict(deadline=30.0)).passed, str(verdict)

It answers at once and well until it is told otherwise, by `weather()` or by a mark with settings of a `MockBackend`:
`@pytest.mark.fault_server(overload_probability=0.3, seed=7)`.

Installed with llmlab by its entry point; nothing but pytest is imported before a test asks for the fixture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmlab.server.fault_server import FaultServer

_MARK = "fault_server"


@pytest.fixture
def fault_server(request: pytest.FixtureRequest) -> Iterator[FaultServer]:
    """A misbehaving model server on loopback; see `llmlab.server.pytest_plugin`."""
    from llmlab.backends.mock import MockBackend  # noqa: PLC0415 - late, so that pytest starts at once
    from llmlab.server.fault_server import FaultServer  # noqa: PLC0415

    settings: dict[str, Any] = {"latency": 0.0, "refusal_latency": 0.0}
    for mark in reversed(list(request.node.iter_markers(_MARK))):  # the nearest mark wins over its module's
        settings |= mark.kwargs
    with FaultServer(MockBackend(**settings)) as server:
        yield server


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known, for `--strict-markers`."""
    config.addinivalue_line(
        "markers", "fault_server(**settings): settings of the MockBackend of this test's fault_server"
    )
