"""What a `LiveMonitor` costs; by hand: `python -m tests.benchmarks.monitor`."""
