"""Plain data in TOML and JSON files: bounded, strict, and nothing in them is executed.

TOML has no word for nothing, so `None` is the table `{ none = true }` there; JSON has `null`. A file that is too long,
nested too deeply, has a key twice or a number without a value is refused by its name.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import tomlkit

from llmlab.core.settings import SettingsError

MAX_BYTES = 16 * 1024 * 1024
"""The longest file that is read."""
MAX_DEPTH = 40
"""The deepest nesting of tables and lists that is taken."""
MAX_BITS = 1024
"""The longest whole number that is taken: what is longer takes its time, and no float can hold it."""

_NONE = {"none": True}
_DEEPER = frozenset({"base"})
"""The tables whose tables are sections, too: of an experiment, its backend, policy and workload."""


def read_document(path: str | Path) -> dict[str, Any]:
    """Return what a file holds, which is a table at its top.

    Raises:
        SettingsError: the file cannot be read or is none of ours; the message names it.
    """
    file = Path(path)
    parse = {".toml": _from_toml, ".json": _from_json}.get(file.suffix.lower())
    if parse is None:
        raise SettingsError(f"{file}: the name must end in .toml or .json")
    try:
        data = parse(_text(file))
    except SettingsError as error:
        raise SettingsError(f"{file}: {error}") from None
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read: {error.strerror or error}") from None
    except RecursionError:
        raise SettingsError(f"{file}: is nested too deeply; at most {MAX_DEPTH} levels are taken") from None
    except ValueError as error:
        what = str(error).partition("; use sys.")[0]  # no advice to lift Python's limit on digits
        raise SettingsError(f"{file}: is no {file.suffix[1:].upper()}: {what}") from None
    if not isinstance(data, dict):
        raise SettingsError(f"{file}: must hold a table at its top, got a {type(data).__name__}")
    return data


def write_document(path: str | Path, data: dict[str, Any]) -> Path:
    """Write plain data to a file, replacing an earlier one.

    Raises:
        SettingsError: the name has another ending than .toml and .json, or TOML cannot hold the data.
        OSError: the file cannot be written.
    """
    file = Path(path)
    text = {".toml": toml_text, ".json": json_text}.get(file.suffix.lower())
    if text is None:
        raise SettingsError(f"{file}: the name must end in .toml or .json")
    written = text(data).encode("utf-8")  # all of it before the old file goes
    file.write_bytes(written)
    return file


def json_text(data: dict[str, Any]) -> str:
    """Return plain data as the text of a JSON file."""
    return json.dumps(data, indent=2, allow_nan=False) + "\n"


def toml_text(data: dict[str, Any]) -> str:
    """Return plain data as the text of a TOML file: sections of one level or two, and a line for each setting in them.

    What is deeper stands in the line, so that its order is kept: TOML's own tables would have to come last.

    Raises:
        SettingsError: something in the data has no form in TOML.
    """
    document = tomlkit.document()
    sections = {name: entry for name, entry in data.items() if isinstance(entry, dict) or _is_long(entry)}
    for name in [name for name in data if name not in sections]:
        document.append(name, _inline(data[name], name))
    for name, entry in sections.items():
        if isinstance(entry, dict):
            document.append(name, _section(entry, name, deeper=name in _DEEPER))
            continue
        tables = tomlkit.aot()
        for one in entry:
            tables.append(_section(one, name))
        document.append(name, tables)
    return tomlkit.dumps(document)


def _is_long(value: Any) -> bool:
    """Whether these are tables of which each is worth a section."""
    return isinstance(value, list) and any(
        isinstance(entry, list | dict) for table in value if isinstance(table, dict) for entry in table.values()
    )


def _section(data: dict[str, Any], path: str, *, deeper: bool = False) -> Any:
    below = {name: entry for name, entry in data.items() if deeper and isinstance(entry, dict)}
    section = tomlkit.table(is_super_table=below.keys() == data.keys() != set())
    for name in [name for name in data if name not in below]:
        section.append(name, _inline(data[name], f"{path}.{name}"))
    for name, entry in below.items():
        section.append(name, _section(entry, f"{path}.{name}"))
    return section


def _inline(value: Any, path: str) -> Any:
    """Return a value that stands in a line."""
    if value is None:
        return _inline_table(_NONE, path)
    if isinstance(value, dict):
        if value == _NONE:
            raise SettingsError(f"'{path}' is the table {{ none = true }}, which is nothing in TOML; save it as JSON")
        return _inline_table(value, path)
    if isinstance(value, list):
        several = tomlkit.array()
        for entry in value:
            several.append(_inline(entry, path))
        return several
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        raise SettingsError(f"'{path}' is a text that UTF-8 cannot hold; save it as JSON")
    return value


def _inline_table(data: dict[str, Any], path: str) -> Any:
    table = tomlkit.inline_table()
    for name, entry in data.items():
        table.append(name, entry if data is _NONE else _inline(entry, f"{path}.{name}"))
    return table


def _text(file: Path) -> str:
    with file.open("rb") as opened:
        content = opened.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise SettingsError(f"is longer than {MAX_BYTES // 1024 // 1024} MiB, the most that is read")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingsError(f"must be in UTF-8; the byte at {error.start} is none") from None


# A key of more parts than tables may be deep, where keys stand: tomllib's time grows with the square of their number.
_PART = r"""(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*"""
_LONG_KEY = re.compile(rf"(?:^|[\[{{,])[ \t]*{_PART}(?:\.[ \t]*{_PART}){{{MAX_DEPTH}}}", re.MULTILINE)


def _from_toml(text: str) -> Any:
    if _LONG_KEY.search(text):
        raise SettingsError(f"has a key of more than {MAX_DEPTH} parts; at most {MAX_DEPTH} levels are taken")
    return _checked(tomllib.loads(text), none=True)


def _from_json(text: str) -> Any:
    return _checked(json.loads(text, object_pairs_hook=_once_each, parse_constant=_no_number), none=False)


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise SettingsError(f"the key '{name[:60]}' stands twice in one object; leave one of them out")
        found[name] = value
    return found


def _no_number(word: str) -> Any:
    raise SettingsError(f"{word} is no number of JSON; write null for no bound")


def _checked(value: Any, *, none: bool, path: str = "", depth: int = 0) -> Any:
    """Return data with `None` in place, bounded in depth and of no other types than JSON's."""
    if depth > MAX_DEPTH:
        raise SettingsError(f"is nested too deeply; at most {MAX_DEPTH} levels are taken")
    if none and value == _NONE and value["none"] is True:
        return None
    if isinstance(value, dict):
        return {
            name: _checked(entry, none=none, path=f"{path}.{name}" if path else name, depth=depth + 1)
            for name, entry in value.items()
        }
    if isinstance(value, list):
        return [_checked(entry, none=none, path=path, depth=depth + 1) for entry in value]
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise SettingsError(f"{path} is a whole number of {value.bit_length():,} bits; at most {MAX_BITS} are taken")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise SettingsError(f"{path} is a {type(value).__name__}, which no setting takes; write it as a text or a number")
