"""Events as OpenTelemetry spans and metrics (extra `otel`): where production already looks, attempts are seen too.

`observer.py` is the observer, `mapping.py` the table of what becomes of each field of an event.
"""

from llmlab.telemetry.mapping import ATTEMPT_MAPPING, CALL_MAPPING, METRICS, Mapped, mapping_table
from llmlab.telemetry.observer import OpenTelemetryObserver

__all__ = ["ATTEMPT_MAPPING", "CALL_MAPPING", "METRICS", "Mapped", "OpenTelemetryObserver", "mapping_table"]
