"""Servers on one's own machine that misbehave or repeat themselves, for trying out any client.

`replay.py` answers from recordings of a real Ollama (`recording.py`).
"""
