"""Benchmarks: run by hand (see each package's docstring), never by the test suite."""
