"""How long a storm map takes: 20 loads by 5 numbers of retries, 300 simulated seconds each, keeping summaries only.

Run `python -m tests.benchmarks.storm_map`. It says the time by the clock and by the processor: on a machine that others
use too, the second one, shared among the processes, is what the first one would be alone.
"""
