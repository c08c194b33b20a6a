"""A simulator fitted to what was measured: `calibrate(events)`, and how far its predictions can be trusted.

`fitting.py` is the order of the work, `calibration.py` what comes of it.
"""

from llmlab.calibration.calibration import METRICS, Calibration
from llmlab.calibration.fitting import calibrate

__all__ = ["Calibration", "METRICS", "calibrate"]
