import pytest

from llmlab.core.events import ATTEMPT_COLUMNS, CALL_COLUMNS, AttemptEvent, CallEvent
from llmlab.telemetry import ATTEMPT_MAPPING, CALL_MAPPING, METRICS

BOTH = [(AttemptEvent, ATTEMPT_MAPPING, ATTEMPT_COLUMNS), (CallEvent, CALL_MAPPING, CALL_COLUMNS)]


@pytest.mark.parametrize(("event", "mapping", "columns"), BOTH)
def test_every_field_of_an_event_is_mapped_or_left_out_with_a_reason(event, mapping, columns):
    assert tuple(row.field for row in mapping) == event._fields
    assert [row.field for row in mapping if not row.attribute and not row.remark] == []


@pytest.mark.parametrize(("event", "mapping", "columns"), BOTH)
def test_the_names_that_the_catalogue_of_columns_gives_are_those_that_are_used(event, mapping, columns):
    used = {row.field: f"`{row.attribute}` {row.remark}" for row in mapping}
    named = [column for column in columns if column.otel]
    assert [column.name for column in named if f"`{column.otel}`" not in used[column.name]] == []
    assert len(named) >= 5


@pytest.mark.parametrize(("event", "mapping", "columns"), BOTH)
def test_no_attribute_has_two_meanings(event, mapping, columns):
    given = [row.attribute for row in mapping if row.attribute]
    assert len(given) == len(set(given))


def test_the_buckets_are_those_that_the_conventions_recommend():
    seconds = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
    tokens = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
    assert {metric.bounds for metric in METRICS if metric.unit == "s"} == {seconds}
    assert {metric.bounds for metric in METRICS if metric.unit == "{token}"} == {tokens}
