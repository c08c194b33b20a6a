"""The fault server's own pages: what it has done so far, and its weather, which can be changed while it runs.

| request | answer |
| --- | --- |
| `GET /` by a browser (`Accept: text/html`) | a page with live counts; other clients get `Ollama is running` |
| `GET /__llmlab__/state` | counts and settings as JSON |
| `GET /__llmlab__/weather` | the settings of its `MockBackend` as JSON |
| `PATCH /__llmlab__/weather` | changes those that are named, such as `{"timeout_probability": 0.2}` |
| `PUT /__llmlab__/weather` | replaces all of them |
| `POST /__llmlab__/reset` | sets the counts and the order of arrival back to nothing |

These change what a server does, so a web page in somebody's browser must not be able to send them: a body must be
declared as JSON, which a page of another origin may not send without asking (CORS; nobody grants it here), and the Host
must be this machine's own, which keeps out names that an attacker lets point here (DNS rebinding). Nobody else can be
told from the user; a server that listens beyond loopback trusts its network.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from llmlab.backends.faults import FAULTS, Faults
from llmlab.backends.http_host import is_loopback
from llmlab.backends.mock import MockBackend
from llmlab.core.plain_data import plain_data
from llmlab.core.settings import Settings, SettingsError, changed_settings, nearest
from llmlab.wire.exchange import Head

if TYPE_CHECKING:
    from llmlab.wire.exchange import HTTPRequest

PREFIX = "/__llmlab__/"
STATE, WEATHER, RESET = f"{PREFIX}state", f"{PREFIX}weather", f"{PREFIX}reset"
_METHODS = {STATE: ("GET",), WEATHER: ("GET", "PATCH", "PUT"), RESET: ("POST",)}
_LARGEST_JSON = 1024 * 1024


class Administered(Protocol):
    """What can be seen and changed of a server."""

    @property
    def backend(self) -> MockBackend:
        """Its settings."""
        ...

    def state(self) -> dict[str, Any]:
        """Return what it has done so far, as plain data."""
        ...

    def change(self, backend: MockBackend) -> None:
        """Put other settings into force."""
        ...

    def reset(self) -> None:
        """Set the counts and the order of arrival back."""
        ...


class Reply(NamedTuple):
    """A whole answer."""

    head: Head
    body: bytes


class Refused(Exception):
    """A request that is not carried out: a status, and what to do."""

    def __init__(self, status: int, text: str, **headers: str) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers


def is_for_admin(request: HTTPRequest) -> bool:
    """Whether a request is for these pages and not for the simulated server."""
    for_page = request.path == "/" and request.method == "GET" and "text/html" in (request.header("accept") or "")
    return for_page or request.path.startswith(PREFIX)


def administer(request: HTTPRequest, server: Administered) -> Reply:
    """Carry out a request and return its answer; what is wrong with it is said in JSON."""
    try:
        _check_host(request)
        return _carried_out(request, server)
    except Refused as refused:
        return _json({"error": str(refused)}, refused.status, **refused.headers)
    except SettingsError as error:  # the settings hold what JSON cannot, such as an exception in a script
        return _json({"error": str(error)}, 500)


def _carried_out(request: HTTPRequest, server: Administered) -> Reply:
    path = request.path
    if path == "/":
        return _page()
    if path not in _METHODS:
        raise Refused(404, f"there is no '{path[:80]}' here; {nearest(path[:80], _METHODS)}")
    if request.method not in _METHODS[path]:
        allowed = ", ".join(_METHODS[path])
        raise Refused(405, f"{path} takes {allowed}, not {request.method[:20]}", Allow=allowed)
    if path == STATE:
        return _json(server.state())
    if path == WEATHER and request.method == "GET":
        return _json(weather_data(server.backend))
    given = _given(request)
    if path == RESET:
        server.reset()
        return _json(server.state())
    changed = _changed(server.backend, given, whole=request.method == "PUT")
    try:
        server.change(changed)
    except SettingsError as error:  # what is not possible in front of a real server
        raise Refused(400, str(error)) from None
    return _json(weather_data(server.backend))


def _changed(backend: MockBackend, given: dict[str, Any], *, whole: bool) -> MockBackend:
    try:
        changed: MockBackend = MockBackend(**given) if whole else backend.replace(**given)
    except (SettingsError, TypeError) as error:  # TypeError: a name that no keyword can be
        raise Refused(400, str(error)) from None
    return changed


def weather_data(backend: MockBackend) -> dict[str, Any]:
    """Return the settings as plain data, without the text of the answers: it may be a function, and is no weather."""
    data: dict[str, Any] = plain_data(backend.replace(text=""))
    del data["text"]
    return data


def in_short(backend: MockBackend) -> dict[str, str]:
    """Return the settings that are not the defaults, each as a short text; those of the faults one by one."""
    plain = MockBackend()
    changed = {name: value for name, value in changed_settings(backend).items() if value != getattr(plain, name)}
    faults = changed_settings(changed.pop("faults", Faults()))
    schedule = faults.pop("schedule", ())
    changed.pop("text", None)
    shown = {(f"{name}_probability" if name in FAULTS else name): value for name, value in faults.items()}
    shown |= {f"schedule {place}": entry for place, entry in enumerate(schedule)}
    return {name: _briefly(value) for name, value in {**shown, **changed}.items()} or {"": "healthy, no faults"}


def _briefly(value: Any) -> str:
    if isinstance(value, Settings):
        return ", ".join(f"{name} {_briefly(entry)}" for name, entry in changed_settings(value).items())
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _given(request: HTTPRequest) -> dict[str, Any]:
    kind = (request.header("content-type") or "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, f"the Content-Type must be application/json, got '{kind[:80]}'")
    if len(request.body) > _LARGEST_JSON:
        raise Refused(413, f"at most {_LARGEST_JSON} bytes of JSON are taken, got {len(request.body)}")
    try:
        given = json.loads(request.body or b"{}")
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is no JSON: {error}") from None
    if not isinstance(given, dict):
        raise Refused(400, f"the body must be a JSON object, got a {type(given).__name__}")
    return given


def _check_host(request: HTTPRequest) -> None:
    """Refuse a host that is not this machine.

    Raises:
        Refused: it is not, or there is none.
    """
    host = request.header("host") or ""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if not is_loopback(name):
        raise Refused(403, f"the Host must be this machine (127.0.0.1, localhost, [::1]), got '{name[:80]}'")


def _page() -> Reply:
    body = (resources.files("llmlab.server") / "page.html").read_bytes()
    policy = (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return _reply(body, "text/html; charset=utf-8", 200, {"Content-Security-Policy": policy})


def _json(data: dict[str, Any], status: int = 200, **headers: str) -> Reply:
    return _reply(json.dumps(data).encode() + b"\n", "application/json; charset=utf-8", status, headers)


def _reply(body: bytes, kind: str, status: int, headers: dict[str, str]) -> Reply:
    always = {"Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": "no-store"}
    sniffed = {"X-Content-Type-Options": "nosniff"}
    return Reply(Head(status, tuple({**always, **sniffed, **headers}.items())), body)
