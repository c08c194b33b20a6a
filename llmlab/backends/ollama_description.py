"""What an Ollama server says of itself: version, installed and loaded models; the answers of its listings, as values.

Pure. A listing is read leniently, for it decides nothing: what a server leaves out is `None`. Who asks for it is
`ollama_inquiry.py`; `LocalLLM.describe()` hands it to the user.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from llmlab.backends.http_answers import ProtocolBreach, json_object, whole_number
from llmlab.core.display import grid


class InstalledModel(NamedTuple):
    """A model that the server has on its disk; `None` for what the server did not say.

    `parameters` and `quantisation` are the server's own words, such as `8.0B` and `Q4_K_M`. `context_length` is the
    longest context that the model was made for, in tokens; what it is loaded with is in `LoadedModel`.
    """

    name: str
    size_bytes: int | None = None
    family: str | None = None
    parameters: str | None = None
    quantisation: str | None = None
    context_length: int | None = None
    writes_text: bool = True


class LoadedModel(NamedTuple):
    """A model that is in the server's memory, and until when; `None` for what the server did not say.

    `context_length` is the number of tokens that it was loaded with (`num_ctx`). `vram_bytes` is the part of
    `size_bytes` on a GPU.
    """

    name: str
    context_length: int | None = None
    size_bytes: int | None = None
    vram_bytes: int | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerDescription:
    """An Ollama server as it described itself; it prints as a small table.

    Attributes:
        base_url: where it was asked.
        version: its version; `None` if it did not say.
        models: the installed models, the one changed last first; `None` if it did not say.
        loaded: the models in memory; `None` if it did not say.
        slots: how many requests it works on at once; `None` where unknown. Ollama itself does not tell its
            `OLLAMA_NUM_PARALLEL`; servers that also have llama.cpp's `/props` do.
        problems: why something is `None`, one sentence for each cause; empty if everything was answered.
    """

    base_url: str
    version: str | None = None
    models: tuple[InstalledModel, ...] | None = None
    loaded: tuple[LoadedModel, ...] | None = None
    slots: int | None = None
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether a server answered, be it in part."""
        return self.version is not None or self.models is not None

    def __repr__(self) -> str:
        rows = self._rows()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        return "\n  ".join([f"{self._title()}:", *(line.rstrip() for line in table), *self._notes()])

    def _repr_html_(self) -> str:
        rows = self._rows()
        return grid(self._title(), _COLUMNS if rows else (), rows, note=". ".join(self._notes()))

    def _rows(self) -> list[list[str]]:
        return [[model.name, *_words(model), _memory(self._memory_of(model))] for model in self.models or ()]

    def _title(self) -> str:
        if not self.ok:
            return f"no description of an Ollama server at {self.base_url}"
        return f"Ollama {self.version or '(version unknown)'} at {self.base_url}"

    def _memory_of(self, model: InstalledModel) -> LoadedModel | None:
        return next((one for one in self.loaded or () if one.name == model.name), None)

    def _notes(self) -> list[str]:
        notes = (
            [] if self.models != () else ["no model is installed; get one with `ollama pull llama3.2`, or any other"]
        )
        known = {model.name for model in self.models or ()}
        notes += [f"{one.name} is {_memory(one)}" for one in self.loaded or () if one.name not in known]
        if self.ok:
            notes.append(
                f"slots: {self.slots or 'unknown, the server does not tell how many requests it serves at once'}"
            )
        return [*notes, *self.problems]


_COLUMNS = ("model", "size", "parameters", "context", "memory")


def _words(model: InstalledModel) -> tuple[str, str, str]:
    kind = " ".join(filter(None, [model.family, model.parameters, model.quantisation]))
    return _size(model.size_bytes), kind, f"context {model.context_length or '?'}"


def _memory(model: LoadedModel | None) -> str:
    """Say how a model lies in memory: with which context, how much of it on a GPU, and until when."""
    if model is None:
        return ""
    parts = ["loaded"]
    if model.context_length is not None:
        parts.append(f"context {model.context_length}")
    if model.size_bytes and model.vram_bytes is not None:
        parts.append(f"{model.vram_bytes / model.size_bytes:.0%} in VRAM")
    if model.expires_at is not None:
        # For ever is 292 years to Go, the longest that its durations hold.
        for_ever = model.expires_at.year - datetime.now(UTC).year > 100
        parts.append("for ever" if for_ever else f"until {model.expires_at:%H:%M:%S %Z}")
    return ", ".join(parts)


def _size(number: int | None) -> str:
    """Write bytes as Ollama does: decimal units."""
    if number is None:
        return "?"
    for unit, worth in (("GB", 1e9), ("MB", 1e6)):
        if number >= worth:
            return f"{number / worth:.1f} {unit}"
    return f"{number / 1e3:.1f} kB"


def read_version(body: bytes) -> str:
    """Return what `/api/version` says.

    Raises:
        ProtocolBreach: the body says no version.
    """
    version = _text(json_object(body, "/api/version").get("version"))
    if version is None:
        raise ProtocolBreach("/api/version says no version")
    return version


def read_installed(body: bytes) -> tuple[InstalledModel, ...]:
    """Return what `/api/tags` lists, in its order: the model changed last first.

    Raises:
        ProtocolBreach: the body is no list of models.
    """
    found = []
    for entry in _entries(body, "/api/tags"):
        details = entry.get("details")
        details = details if isinstance(details, dict) else {}
        can = entry.get("capabilities")
        found.append(
            InstalledModel(
                name=entry["name"],
                size_bytes=whole_number(entry.get("size")),
                family=_text(details.get("family")),
                parameters=_text(details.get("parameter_size")),
                quantisation=_text(details.get("quantization_level")),
                context_length=whole_number(details.get("context_length")),
                # Embedding models are listed too; servers before the `capabilities` do not say which they are.
                writes_text=not isinstance(can, list) or "completion" in can,
            )
        )
    return tuple(found)


def read_loaded(body: bytes) -> tuple[LoadedModel, ...]:
    """Return what `/api/ps` lists.

    Raises:
        ProtocolBreach: the body is no list of models.
    """
    return tuple(
        LoadedModel(
            name=entry["name"],
            context_length=whole_number(entry.get("context_length")),
            size_bytes=whole_number(entry.get("size")),
            vram_bytes=whole_number(entry.get("size_vram")),
            expires_at=_moment(entry.get("expires_at")),
        )
        for entry in _entries(body, "/api/ps")
    )


def read_slots(body: bytes) -> int | None:
    """Return what llama.cpp's `/props` says of its slots, if anything.

    Raises:
        ProtocolBreach: the body is no JSON object.
    """
    return whole_number(json_object(body, "/props").get("total_slots"))


def tagged(name: str) -> str:
    """Return a model's name as Ollama lists it: without a tag, `latest` is meant."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _entries(body: bytes, path: str) -> list[dict[str, Any]]:
    models = json_object(body, path).get("models", 0)
    entries = [] if models is None else models
    if not isinstance(entries, list):
        raise ProtocolBreach(f"{path} is no list of models")
    for entry in entries:
        if not isinstance(entry, dict) or not _text(entry.get("name")):
            raise ProtocolBreach(f"{path} has a model without a name that can be read")
    return entries


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value and value.isprintable() else None


def _moment(value: object) -> datetime | None:
    try:
        return datetime.fromisoformat(value).astimezone(UTC) if isinstance(value, str) else None
    except (ValueError, OverflowError):  # Go writes years beyond Python's last one
        return None
