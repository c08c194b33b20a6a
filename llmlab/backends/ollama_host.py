"""Where the Ollama server is: `OLLAMA_HOST` and `base_url`, in all the spellings of `http_host.py`."""

from __future__ import annotations

from llmlab.backends import http_host

DEFAULT_URL = "http://127.0.0.1:11434"
"""What an empty text means."""
_PORT = 11434


def parse_host(text: str, *, setting: str = "OLLAMA_HOST") -> str:
    """Return the base URL that a text names, without a slash at its end.

    Args:
        text: the text to read; an empty one means the default, `http://127.0.0.1:11434`.
        setting: where it stands, for the error.

    Raises:
        SettingsError: the text is no address; it is not repeated where it holds a user name and password.
    """
    # As Ollama itself reads its own name: the one that is on the web, and so the one exception to its port.
    named = "https://ollama.com" if text.strip("\"' \t\n") == "ollama.com" else text
    return http_host.parse_host(named, setting=setting, port=_PORT)
