"""Situations to start from: experiments of which each shows one way in which clients fail."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from llmlab.backends.distributions import Constant, Lognormal
from llmlab.backends.faults import Faults
from llmlab.backends.mock import MockBackend
from llmlab.backends.server_model import Outage, ServerModel
from llmlab.core.messages import LLMRequest
from llmlab.core.policy import ClientPolicy
from llmlab.core.retry import Backoff, RetryPolicy
from llmlab.experiments.experiment import Experiment
from llmlab.experiments.workload import ClosedLoop, OpenLoop

_CALLS = 500

SITUATIONS: Mapping[str, Experiment] = MappingProxyType(
    {
        "timeouts": Experiment(
            backend=MockBackend(timeout_probability=0.2),
            policy=ClientPolicy(attempt_timeout=10.0),
            workload=ClosedLoop(calls=_CALLS),
        ),
        "retry storm": Experiment(
            backend=MockBackend(
                server=ServerModel(
                    slots=8,
                    service_time=Constant(value=1.0),
                    on_disconnect="work_on",
                    outages=(Outage(start=10.0, end=20.0),),
                )
            ),
            policy=ClientPolicy(
                retry=RetryPolicy(max_retries=3, backoff=Backoff(base=0.5, jitter="none")),
                attempt_timeout=3.0,
                total_timeout=None,
            ),
            workload=OpenLoop(calls=_CALLS, rate=6.0),
        ),
        "rate-limited API": Experiment(
            backend=MockBackend(
                server=ServerModel(slots=64, service_time=Constant(value=0.8), requests_per_minute=120.0)
            ),
            workload=OpenLoop(calls=_CALLS, rate=5.0),
        ),
        "slow Ollama": Experiment(
            backend=MockBackend(
                server=ServerModel.profile("ollama", output_tokens=Lognormal(median=60.0, sigma=0.5)),
            ),
            policy=ClientPolicy(attempt_timeout=15.0),
            workload=ClosedLoop(calls=200, users=10),
        ),
        "flaky network": Experiment(
            backend=MockBackend(connection_error_probability=0.05, cut_probability=0.05, stall_probability=0.03),
            workload=ClosedLoop(calls=_CALLS),
        ),
        "busy provider": Experiment(
            backend=MockBackend(faults=Faults(overload=0.25, rate_limit=0.05, retry_after=5.0)),
            workload=ClosedLoop(calls=_CALLS),
        ),
        "malformed output": Experiment(
            backend=MockBackend(malformed_probability=0.15, invalid_json_probability=0.1, truncated_probability=0.03),
            workload=ClosedLoop(
                calls=_CALLS, requests=LLMRequest(prompt="Name a planet, as JSON.", response_format="json")
            ),
        ),
    }
)
"""Experiments by the name of what they show."""
