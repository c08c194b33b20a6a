"""Canaries: texts that nobody may find in what llmlab writes or shows, and a witness who keeps all that it does."""

from __future__ import annotations

import base64
import logging
import re
import traceback
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CANARIES = {
    "prompt": "canary7f3a91c2",
    "system": "canaryb04d55e8",
    "turn": "canary21c9e7aa",
    "stop": "canary9e88d013",
    "metadata": "canary30f6bb47",
    "output": "canaryd5127c9f",
    "key": "canary68ea04b1",
    "password": "canary4b9c2d76",
    "header": "canaryc7e1f35a",
    "error": "canary0a6fd298",
}
PRIVATE = [name for name in CANARIES if name != "error"]
"""What may stand nowhere; a server's own error text may stand in the failure that it caused."""

PROMPT = f"My name is {CANARIES['prompt']}, keep it to yourself."
SYSTEM = f"Never say {CANARIES['system']} aloud."
TURN = f"As I said, {CANARIES['turn']}."
STOP = f"{CANARIES['stop']} END"
OUTPUT = f"Well, {CANARIES['output']}, here is your answer."
KEY = f"sk-{CANARIES['key']}"
PASSWORD = CANARIES["password"]
ERROR = f"the disk {CANARIES['error']} is full"

_DATA_URI = re.compile(rb"base64,([A-Za-z0-9+/=]+)")


class Witness:
    """Keeps every text that was written or shown, by where that was."""

    def __init__(self) -> None:
        self.texts: list[tuple[str, str]] = []

    def saw(self, where: str, text: str | bytes) -> None:
        """Keep a text, and what is packed inside it."""
        content = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        self.texts.append((where, content.decode("latin-1")))
        for packed in _DATA_URI.findall(content):
            self.texts.append((f"{where}, packed", base64.b64decode(packed).decode("latin-1")))

    def was_shown(self, value: Any) -> None:
        """Keep what showing a value says, in every way in which that is done."""
        where = f"a {type(value).__name__}"
        ways = (repr, str, "{}".format, lambda one: f"{[one]} {one!r:>9}", lambda one: "%s" % (one,))  # noqa: UP031
        for way in ways:
            self.saw(where, way(value))
        for name in ("_repr_html_", "_repr_mimebundle_"):
            if callable(getattr(type(value), name, None)):
                self.saw(f"{where} in a notebook", str(getattr(value, name)()))

    def was_raised(self, error: BaseException) -> None:
        """Keep what an exception says, with everything under it."""
        where = f"a {type(error).__name__} that was raised"
        self.saw(where, "".join(traceback.format_exception(error)))
        inner: BaseException | None = error
        while inner is not None:
            self.saw(where, f"{inner!r} {inner} {inner.args} {getattr(inner, '__notes__', '')}")
            inner = inner.__cause__ or (None if inner.__suppress_context__ else inner.__context__)

    def was_stored(self, folder: Path) -> None:
        """Keep the content of all files; of Parquet files also what their pages hold."""
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            self.saw(f"the file {file.name}", file.read_bytes())
            if file.suffix == ".parquet":
                self.saw(f"the table {file.name}", str(pq.read_table(file).to_pydict()))

    def found(self, canary: str) -> set[str]:
        """Return where a canary was seen."""
        return {where for where, text in self.texts if CANARIES[canary] in text.lower()}

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Keep every log record, however unimportant, and every warning, of all libraries."""
        handler = _Kept(self)
        root = logging.getLogger()
        level = root.level
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        try:
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                yield
        finally:
            root.removeHandler(handler)
            root.setLevel(level)
        for one in warned:
            self.saw("a warning", f"{one.message} {one.source!r}")


class _Kept(logging.Handler):
    def __init__(self, witness: Witness) -> None:
        super().__init__(logging.DEBUG)
        self._witness = witness
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self._witness.saw(f"the log of {record.name}", self.format(record))
