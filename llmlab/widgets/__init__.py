"""Interactive pages for notebooks: `SweepDashboard`, thin shells over experiments, analysis and plots.

`dashboard.py` is what happens, `page.py` what it looks like, `controls.py` what can be set; `views.py` chooses the
charts. None of it is needed to do what it does: see `llmlab.reading`, `llmlab.plots` and `llmlab.as_code`.
"""

from llmlab.widgets.dashboard import SweepDashboard
from llmlab.widgets.situations import SITUATIONS

__all__ = ["SITUATIONS", "SweepDashboard"]
