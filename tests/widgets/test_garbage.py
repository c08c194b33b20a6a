"""A full collection takes as long as a chart, so none is made while one is drawn; afterwards all is as it was."""

import asyncio
import gc
from collections.abc import Iterator

import pytest

from llmlab.widgets import SweepDashboard, instant
from llmlab.widgets.garbage import collection_put_off


@pytest.fixture(autouse=True)
def collector_as_before() -> Iterator[None]:
    """Leave the collector as it was, whatever a test has done to it."""
    before = gc.isenabled()
    gc.enable()
    yield
    (gc.enable if before else gc.disable)()


def test_the_collector_waits_for_a_chart_and_works_again_after_an_error() -> None:
    def chart() -> None:
        with collection_put_off():
            assert not gc.isenabled()
            raise ValueError("in a chart")

    with pytest.raises(ValueError, match="in a chart"):
        chart()
    assert gc.isenabled()


def test_the_collector_waits_for_the_last_of_several_charts() -> None:
    async def chart(seconds: float) -> bool:
        with collection_put_off():
            await asyncio.sleep(seconds)
            return gc.isenabled()

    async def both() -> list[bool]:
        return await asyncio.gather(chart(0.0), chart(0.01))

    assert asyncio.run(both()) == [False, False]
    assert gc.isenabled()


def test_a_collector_that_the_user_has_switched_off_stays_off() -> None:
    gc.disable()
    with collection_put_off():
        pass
    assert not gc.isenabled()


def test_the_dashboard_draws_without_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    draw = instant.image_of

    def watched(panel: object) -> bytes:
        seen.append(gc.isenabled())
        return draw(panel)

    monkeypatch.setattr(instant, "image_of", watched)
    dashboard = SweepDashboard()
    dashboard.wait()
    dashboard.close()
    assert seen
    assert not any(seen)
    assert gc.isenabled()
