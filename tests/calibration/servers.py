"""Servers whose truth is known, and what clients record of them: each load with chance of its own, as in reality."""

from typing import Any, NamedTuple

import pandas as pd

from llmlab import (
    Burst,
    ClientPolicy,
    ClosedLoop,
    Experiment,
    Exponential,
    Faults,
    LLMRequest,
    Lognormal,
    MockBackend,
    ServerModel,
)
from llmlab.backends.setting_paths import setting_at

LENGTHS = (20, 60, 150, 400)
PROMPTS = tuple(LLMRequest(prompt="x" * (4 * tokens)) for tokens in LENGTHS)
PATIENT = ClientPolicy(attempt_timeout=60, total_timeout=None)
ANSWERS = Lognormal(median=60, sigma=0.5)


class Known(NamedTuple):
    """A server, and the parameters of it that a client can tell."""

    backend: MockBackend
    told: tuple[str, ...]

    def truth(self, path: str) -> Any:
        """Return a parameter's true value."""
        return setting_at(self.backend, path)


BY_TOKENS = ServerModel(slots=4, prefill_rate=900, decode_rate=45, batch_slowdown=0.25, output_tokens=ANSWERS)
_BY_TOKENS = ("server.slots", "server.prefill_rate", "server.decode_rate", "server.batch_slowdown")
_ANSWERS = ("server.output_tokens.median", "server.output_tokens.sigma")

SERVERS = {
    "tokens": Known(
        MockBackend(server=BY_TOKENS.replace(load_time=3.0), timeout_probability=0.02, overload_probability=0.1),
        (*_BY_TOKENS, *_ANSWERS, "server.load_time.value", "faults.timeout", "faults.overload"),
    ),
    "tokens and a wait": Known(
        MockBackend(server=BY_TOKENS.replace(time_to_first_token=Lognormal(median=0.3, sigma=0.4))),
        (*_BY_TOKENS, *_ANSWERS, "server.time_to_first_token.median", "server.time_to_first_token.sigma"),
    ),
    "time": Known(
        MockBackend(server=ServerModel(slots=4, service_time=Lognormal(median=0.8, sigma=0.5)), first_token_share=0.3),
        ("server.slots", "server.service_time.median", "server.service_time.sigma", "first_token_share"),
    ),
    "memoryless, in a batch": Known(
        MockBackend(server=ServerModel(slots=6, service_time=Exponential(mean=1.0), batch_slowdown=0.4)),
        ("server.slots", "server.service_time.mean", "server.batch_slowdown"),
    ),
    "full queue": Known(
        MockBackend(server=ServerModel(slots=3, queue=4, service_time=Exponential(mean=1.0))),
        ("server.slots", "server.queue", "server.service_time.mean"),
    ),
    "rate limit": Known(
        MockBackend(
            server=ServerModel(
                slots=50, service_time=Lognormal(median=0.8, sigma=0.5), requests_per_minute=120, limit_burst=20
            )
        ),
        ("server.requests_per_minute", "server.limit_burst", "server.service_time.median", "server.service_time.sigma"),
    ),
    "ollama": Known(
        MockBackend(server=ServerModel.profile("ollama", slots=2, output_tokens=ANSWERS)),
        (*_BY_TOKENS, *_ANSWERS, "server.load_time.value"),
    ),
    "no queue": Known(
        MockBackend(latency=Lognormal(median=0.8, sigma=0.5), server_error_probability=0.1, empty_probability=0.05),
        ("latency.median", "latency.sigma", "first_token_share", "faults.server_error", "faults.empty"),
    ),
    "bursts": Known(
        MockBackend(
            latency=Lognormal(median=0.8, sigma=0.5),
            faults=Faults(schedule=[Burst(kind="overload", mean_good=20, mean_bad=5, probability=0.8)]),
        ),
        ("latency.median", "latency.sigma"),
    ),
}


def measured(
    backend: MockBackend, users: tuple[int, ...], calls: int, *, seed: int = 0, policy: ClientPolicy = PATIENT
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the attempts and calls of so many calls under each number of users."""
    attempts, frames = [], []
    for number, count in enumerate(users):
        load = ClosedLoop(calls=calls, users=count, requests=PROMPTS)
        result = Experiment(backend=backend, policy=policy, workload=load, seed=1000 * seed + number).run()
        attempts.append(result.attempts.assign(**{"workload.users": count}))
        frames.append(result.calls.assign(**{"workload.users": count}))
    return pd.concat(attempts, ignore_index=True), pd.concat(frames, ignore_index=True)
