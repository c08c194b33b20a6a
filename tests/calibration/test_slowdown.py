"""The slowdown of a batch, and how sure it is."""

import numpy as np
import pytest

from llmlab import Constant, Lognormal, MockBackend, ServerModel
from llmlab.calibration.service import fit_service
from llmlab.calibration.visits import recorded, visits_of
from tests.calibration.servers import measured


def visits(server, users, *, noise=0.0):
    """Return the attempts at a server, with noise (in seconds) of measuring their first tokens."""
    found = visits_of(recorded(measured(MockBackend(server=server), users, 400)))
    late = np.random.default_rng(0).exponential(noise, len(found.came)) if noise else 0.0
    return found._replace(first=np.minimum(found.first + late, found.left))


BATCH = ServerModel(slots=4, decode_rate=50, batch_slowdown=0.3, output_tokens=Lognormal(median=60, sigma=0.5))


def test_it_is_told_by_loads_that_differ():
    found = fit_service(visits(BATCH, (1, 2, 8)))
    assert found.slowdown_told
    assert found.best.slowdown == pytest.approx(0.3, rel=1e-3)


def test_noise_of_measuring_makes_its_interval_wider_and_hides_no_slots():
    found = fit_service(visits(BATCH, (1, 2, 8), noise=0.1))
    low, high = found.slowdown_range
    assert found.best.slots == 4
    assert found.best.law == "tokens"
    assert low < 0.3 < high
    assert 0 < high - low < 0.05


def test_where_there_is_none_it_is_nought_and_little_more_is_possible():
    found = fit_service(visits(ServerModel(slots=4, service_time=Lognormal(median=1, sigma=0.4)), (1, 8)))
    assert found.best.slowdown == 0
    assert found.slowdown_range[0] == 0 < found.slowdown_range[1] < 0.01


def test_a_batch_that_is_always_as_full_tells_none():
    found = fit_service(visits(ServerModel(slots=1, service_time=Constant(value=1)), (3,)))
    assert not found.slowdown_told
