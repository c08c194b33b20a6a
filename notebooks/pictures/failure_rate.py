"""Makes failure_rate.png, the picture in README.md: the sweep of `llmlab sweep`, with more calls."""

from pathlib import Path

from llmlab import ClosedLoop, Experiment, Sweep, plots
from llmlab.cli.sweep import GRID, HUE, X

result = Sweep(Experiment(workload=ClosedLoop(calls=5000)), GRID).run()
axes = plots.failure_rate(result.calls, x=X, hue=HUE)
axes.figure.savefig(Path(__file__).with_suffix(".png"), dpi=110, metadata={"Software": None})
