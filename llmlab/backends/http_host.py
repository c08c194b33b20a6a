"""Where a server is: all the spellings of `OLLAMA_HOST`, `base_url` and their likes, read as Ollama itself reads them.

Pure text in, URL out. Two differences from Ollama's own reading, both on purpose: an address to listen on (`0.0.0.0`)
becomes one to connect to, and what cannot be meant (port 99999) is refused instead of replaced by a default.
"""

from __future__ import annotations

import ipaddress
import re

import httpx

from llmlab.core.settings import SettingsError

# As in Ollama: who writes a scheme means the scheme's own port.
_SCHEME_PORTS = {"http": 80, "https": 443}
# "every address" to a server that listens; a client that is given it means this machine
_LISTEN_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, and never bound
_NAME = re.compile(r"[\w.-]+")
_PATH = re.compile(r"[\w.~!$&'()*+,;=:%/-]*")


def parse_host(text: str, *, setting: str, port: int) -> str:
    """Return the base URL that a text names, without a slash at its end.

    Understood are `host`, `host:port`, `:port`, `http://host`, `https://host:port/path`, IPv4 and IPv6 addresses with
    and without brackets, with quotes or blanks around them. The host is 127.0.0.1 where none is written.

    Args:
        text: the text to read.
        setting: where it stands, for the error.
        port: the port where neither it nor a scheme is written; a scheme means its own.

    Raises:
        SettingsError: the text is no address; it is not repeated where it holds a user name and password.
    """
    cleaned = text.strip().strip("\"'").strip()
    if "@" in cleaned:  # wherever: a password may hold a slash, and a scheme be misspelt
        raise SettingsError(
            f"{setting} must hold no user name or password (no '@'), for it is shown in messages and settings; "
            "pass http_client=httpx.AsyncClient(auth=...) instead"
        )
    scheme, separator, rest = cleaned.partition("://")
    written = scheme.lower() if separator else "http"
    if written not in _SCHEME_PORTS:
        raise _refused(setting, text, f"the scheme '{scheme[:30]}' is not http or https")
    address, slash, path = (rest if separator else cleaned).partition("/")
    if not _PATH.fullmatch(path):
        raise _refused(setting, text, "its path holds a character that is not allowed there")
    host, digits = _split(address, setting, text)
    shown = f"[{host}]" if ":" in host else host
    default = _SCHEME_PORTS[written] if separator else port
    number = _port(digits, setting, text) if digits else default
    url = f"{written}://{shown}:{number}{slash}{path}".rstrip("/")
    try:
        encoded = httpx.URL(url).host
    except (httpx.InvalidURL, ValueError):  # ValueError: what stands there as punycode is none
        encoded = ""
    if not encoded:
        raise _refused(setting, text, "no host can have this name")
    return url


def is_loopback(host: str) -> bool:
    """Whether a host, as it stands in a URL (without brackets), is this machine itself."""
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _split(address: str, setting: str, text: str) -> tuple[str, str]:
    """Split `host:port`; a bare IPv6 address is all host."""
    if address.startswith("["):
        host, _, after = address[1:].partition("]")
        if after and not after.startswith(":"):
            raise _refused(setting, text, "after ']' only a port may follow")
        host, port = _ipv6(host, setting, text), after[1:]
    elif address.count(":") > 1:
        host, port = _ipv6(address, setting, text), ""
    else:
        host, _, port = address.partition(":")
        if host and not _NAME.fullmatch(host):
            raise _refused(setting, text, "the host holds a character that is not allowed there")
    return _LISTEN_ANYWHERE.get(host, host) or "127.0.0.1", port


def _ipv6(host: str, setting: str, text: str) -> str:
    try:
        return str(ipaddress.IPv6Address(host))
    except ValueError:
        raise _refused(setting, text, f"'{host[:60]}' is no IPv6 address") from None


def _port(port: str, setting: str, text: str) -> int:
    if not re.fullmatch(r"\d{1,5}", port, re.ASCII) or not 0 < int(port) < 65536:
        raise _refused(setting, text, f"the port '{port[:30]}' is not a number from 1 to 65535")
    return int(port)


def _refused(setting: str, text: str, why: str) -> SettingsError:
    shown = re.split(r"[?#]", text, maxsplit=1)[0]  # some servers take their key in the query
    cut = "..." if len(shown) > 100 or shown != text else ""
    return SettingsError(
        f"{setting} must be an address like '127.0.0.1:11434' or 'https://host:port', got '{shown[:100]}{cut}': {why}"
    )
