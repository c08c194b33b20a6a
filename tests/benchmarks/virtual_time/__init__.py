"""How fast simulated traffic runs, side by side with other ways to simulate it.

Run `python -m tests.benchmarks.virtual_time`. Each variant runs workload W in processes of its own, interleaved with
the others, and reports CPU time per attempt; the table gives ratios, which hold across machines.
"""
