"""Servers on one's own machine that misbehave or repeat themselves, for trying out any client.

All of them are `hosting.py` (a socket and a thread) and `connection.py` (HTTP that may be broken on purpose).
`fault_server.py` is a simulated model server, with `admin.py` to look at it and change it while it runs and `ledger.py`
for what it records; `replay.py` answers from recordings of a real Ollama (`recording.py`).
"""
