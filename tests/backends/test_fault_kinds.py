"""The table of faults says what a client meets; here a client meets each of them, at every kind of backend."""

from typing import Literal

import pytest
from pydantic import BaseModel

from llmlab import (
    AsyncClient,
    ClientPolicy,
    FailureReason,
    FaultKind,
    Faults,
    LLMRequest,
    MockBackend,
    RetryPolicy,
    ServerModel,
    SettingsError,
    Timeouts,
    WithFaults,
)
from llmlab.backends.fault_kinds import FAULTS, faults_table
from llmlab.backends.mock import MockSettings
from llmlab.virtual_time import run

R = FailureReason
POLICY = ClientPolicy(
    retry=RetryPolicy(max_retries=0),
    attempt_timeout=20.0,
    total_timeout=None,
    timeouts=Timeouts(connect=3.0, first_byte=8.0, between_chunks=5.0),
)
# A text of 25 tokens: the first after 1 s, one every 0.125 s, the last after 4 s.
TEXT = "0123456789" * 10


class Verdict(BaseModel):
    verdict: Literal["guilty"]
    reasons: list[str]


BACKENDS = {
    "mock": lambda faults: MockBackend(latency=4.0, text=TEXT, refusal_latency=0.5, faults=faults),
    "queue": lambda faults: MockBackend(
        latency=4.0, text=TEXT, refusal_latency=0.5, faults=faults, server=ServerModel(slots=2)
    ),
    "with faults": lambda faults: WithFaults(MockBackend(latency=4.0, text=TEXT), faults),
}


def meet(backend, request="Hello", policy=POLICY):
    return run(AsyncClient(backend, policy, seed=0).generate(request))


@pytest.mark.parametrize("where", BACKENDS)
@pytest.mark.parametrize("kind", FaultKind)
def test_a_client_meets_what_the_table_says(kind, where):
    request = LLMRequest(prompt="Judge.", response_format=Verdict)
    result = meet(BACKENDS[where](Faults(**{kind: 1.0}, slow_drip_factor=100.0)), request)
    assert result.reason is FAULTS[kind].reason
    if FAULTS[kind].status_code is not None:
        assert result.status_code == FAULTS[kind].status_code


@pytest.mark.parametrize("where", BACKENDS)
@pytest.mark.parametrize(
    ("kind", "after"),
    [
        ("timeout", 8.0),
        ("connect_stall", 3.0),
        ("stall", 1.0 + 5.0),
        ("slow_drip", 1.0 + 3.0 * 4.0),
        ("no_end_marker", 4.0),
        ("empty", 4.0),
    ],
)
def test_a_fault_takes_its_time(kind, after, where):
    assert meet(BACKENDS[where](Faults(**{kind: 1.0}, slow_drip_factor=4.0))).latency == pytest.approx(after)


@pytest.mark.parametrize("where", ["mock", "queue"])
@pytest.mark.parametrize("kind", ["cut", "error_in_stream"])
def test_a_stream_breaks_half_way_between_its_first_and_its_last_token(kind, where):
    assert meet(BACKENDS[where](Faults(**{kind: 1.0}))).latency == 2.5


@pytest.mark.parametrize("where", BACKENDS)
@pytest.mark.parametrize("kind", ["invalid_json", "wrong_schema", "truncated", "slow_drip"])
def test_what_no_client_can_tell_is_answered(kind, where):
    assert meet(BACKENDS[where](Faults(**{kind: 1.0}, slow_drip_factor=2.0))).ok


def test_without_bounds_on_the_phases_the_attempt_timeout_ends_what_never_ends():
    policy = POLICY.replace(timeouts=Timeouts(connect=None, between_chunks=None))
    for where, backend in BACKENDS.items():
        for kind in ("timeout", "connect_stall", "stall"):
            result = meet(backend(Faults(**{kind: 1.0})), policy=policy)
            assert (result.reason, result.latency) == (R.ATTEMPT_TIMEOUT, 20.0), (where, kind)


@pytest.mark.parametrize("where", BACKENDS)
@pytest.mark.parametrize("kind", ["rate_limit", "overload", "server_error", "bad_gateway", "gateway_timeout"])
def test_every_refusal_can_bring_a_retry_after_or_none(kind, where):
    backend = BACKENDS[where]
    assert meet(backend(Faults(**{kind: 1.0}, retry_after=7.0, retry_after_with=[kind]))).retry_after == 7.0
    assert meet(backend(Faults(**{kind: 1.0}, retry_after=7.0, retry_after_with=[]))).retry_after is None
    by_default = meet(backend(Faults(**{kind: 1.0}, retry_after=7.0))).retry_after
    assert by_default == (7.0 if kind in {"rate_limit", "overload"} else None)


def test_json_that_anything_fits_cannot_be_of_a_wrong_schema():
    assert meet(MockBackend(wrong_schema_probability=1.0), LLMRequest(prompt="a", response_format="json")).ok


def test_the_table_has_a_row_for_every_kind_and_the_documentation_prints_it():
    assert list(FAULTS) == list(FaultKind)
    assert len(faults_table().splitlines()) == len(FaultKind) + 2
    for kind in FaultKind:
        assert Faults.model_fields[kind].description == FAULTS[kind].meaning


def test_every_kind_is_a_plain_keyword_of_the_ready_made_client():
    assert {f"{kind}_probability" for kind in FaultKind} <= set(MockSettings.__annotations__)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"retry_after_with": ["cut"]}, "retry_after_with: 'cut' sends no headers; valid: rate_limit, overload"),
        ({"retry_after_with": ["overlod"]}, "did you mean 'overload'?"),
        ({"slow_drip_factor": 0.5}, "slow_drip_factor must be 1 or more, got 0.5"),
        ({"stalls": 0.1}, "did you mean 'stall'?"),
    ],
)
def test_wrong_settings_are_refused_in_words(settings, message):
    with pytest.raises(SettingsError) as caught:
        Faults(**settings)
    assert message in str(caught.value)
