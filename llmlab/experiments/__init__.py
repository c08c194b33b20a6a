"""Experiments: the same client code under many settings, in virtual time where the backend is simulated.

`workload.py` says when calls arrive (with `arrivals.py` and `rates.py`) and what they ask (`prompts.py`),
`experiment.py` runs one setting, `sweep.py` many, `sweep_result.py` holds what came out; `storm_map.py` runs an outage
over loads and retries, and keeps whether it was survived.
"""
