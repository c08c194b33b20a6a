"""How long each chart of millions of events takes: `python -m tests.benchmarks.plots`."""
