"""How a client behaved towards a misbehaving server: what the fault server recorded of it.

The records stand in `recording.py`, files of them in `recording_file.py`, and the verdict on them in `judge.py`.
Nothing here knows who served: the fault server on a socket and a simulated transport in memory write the same records.
"""
