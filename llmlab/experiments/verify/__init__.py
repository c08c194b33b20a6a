"""Known answers that the simulation must reproduce, each run through the real client: the proof behind the charts.

    from llmlab.experiments.verify import verify

    checks = verify(size=0.1)
    assert checks["holds"].all()

`proof.py` runs them, and `case.py` says what a check is and where its tolerance comes from. The other modules hold the
cases by subject: `retries.py`, `queues.py` and `networks.py` (with `formulas.py`, the theory), `policies.py`,
`storms.py`, `jitter.py` and `tails.py`.
"""

from llmlab.experiments.verify.case import Case, Check
from llmlab.experiments.verify.proof import CASES, COLUMNS, case_names, verify

__all__ = ["CASES", "COLUMNS", "Case", "Check", "case_names", "verify"]
