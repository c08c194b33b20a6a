"""The simulated server as HTTP: what a client of any make sends to it and gets back, step by step.

`exchange.py` has the words in which an exchange is told. Who plays the steps decides how they become bytes: in memory,
or on a socket.
"""
