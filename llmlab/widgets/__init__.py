"""Interactive pages for notebooks, thin shells over experiments, analysis and plots: `SweepDashboard`, `LiveMonitor`.

Of the dashboard `dashboard.py` is what happens, `page.py` what it looks like, `controls.py` what can be set; `views.py`
chooses the charts. `live_monitor.py` watches a client, `tally.py` counts for it. The dashboard is not needed to do what
it does: see `llmlab.reading`, `llmlab.plots` and `llmlab.as_code`.
"""

from llmlab.widgets.dashboard import SweepDashboard
from llmlab.widgets.live_monitor import LiveMonitor
from llmlab.widgets.situations import SITUATIONS

__all__ = ["LiveMonitor", "SITUATIONS", "SweepDashboard"]
