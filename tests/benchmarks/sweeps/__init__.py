"""How fast sweeps are carried out; by hand: `python -m tests.benchmarks.sweeps`."""
