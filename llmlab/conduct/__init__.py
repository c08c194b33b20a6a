"""How a client behaved towards a misbehaving server: what the fault server recorded of it.

The form of a recording, its writer and its reader stand in `recording.py`. Nothing here knows who served: the fault
server on a socket and a simulated transport in memory write the same records.
"""
