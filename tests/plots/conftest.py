import pytest

from tests.analysis.synthetic import frames_of_sweep


@pytest.fixture(scope="session")
def sweep():
    return frames_of_sweep(timeouts=(0.0, 0.2, 0.4), retries=(0, 1, 3), count=120)


@pytest.fixture(scope="session")
def attempts(sweep):
    return sweep[0]


@pytest.fixture(scope="session")
def calls(sweep):
    return sweep[1]
