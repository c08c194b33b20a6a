"""Known answers that the simulation must reproduce, each run through the real client: the proof behind the charts.

`case.py` says what a check is and where its tolerance comes from; the other modules hold the cases by subject.
"""
