"""Refusals by the server's state are told from refusals by chance, and reasons lead back to faults."""

import pytest

from llmlab import ClosedLoop, Experiment, Exponential, Faults, MockBackend, ServerModel, calibrate
from llmlab.backends.fault_kinds import FAULTS, FaultKind
from llmlab.calibration.faults import kinds_of
from tests.calibration.servers import measured

SERVICE = Exponential(mean=1.0)


def test_refusals_by_chance_make_no_queue_full():
    backend = MockBackend(server=ServerModel(slots=3, service_time=SERVICE), overload_probability=0.2)
    found = calibrate(measured(backend, (1, 4, 12), 400)).backend
    assert found.server.queue is None
    assert found.faults.overload == pytest.approx(0.2, abs=0.04)


def test_a_full_server_that_lets_nobody_wait_tells_its_slots():
    backend = MockBackend(server=ServerModel(slots=5, queue=0, service_time=SERVICE))
    found = calibrate(measured(backend, (2, 12), 500)).backend
    assert (found.server.slots, found.server.queue) == (5, 0)
    assert found.faults.overload == 0


def test_a_fault_with_a_fixed_retry_after_is_no_rate_limit():
    faults = Faults(rate_limit=0.2, server_error=0.1, retry_after=1.5)
    found = calibrate(measured(MockBackend(faults=faults), (4,), 600)).backend
    assert found.server is None
    assert found.faults.rate_limit == pytest.approx(0.2, abs=0.04)
    assert (found.faults.retry_after, found.faults.retry_after_with) == (1.5, ("rate_limit",))


@pytest.mark.parametrize("kind", [kind for kind in FaultKind if FAULTS[kind].otherwise == ""])
def test_a_reason_and_a_status_lead_back_to_the_fault(kind):
    row = FAULTS[kind]
    assert kind in kinds_of(row.reason, row.status_code or 0)


def test_reasons_that_are_no_fault_lead_to_none():
    assert kinds_of("invalid_request", 400) == ()
    assert kinds_of("cancelled", 0) == ()


def test_faults_that_spoil_an_answer_are_counted_among_those_that_were_not_refused():
    backend = MockBackend(overload_probability=0.5, empty_probability=0.2)
    load = ClosedLoop(calls=1500, users=4)
    found = calibrate(Experiment(backend=backend, workload=load).run()).backend.faults
    assert found.overload == pytest.approx(0.5, abs=0.03)
    assert found.empty == pytest.approx(0.2, abs=0.03)
