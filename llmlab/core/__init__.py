"""What a call is: stdlib and pydantic only, no I/O. Start with `vocabulary.py`; THE call is in `flow.py`."""
