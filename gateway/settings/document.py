"""A TOML file from disk: bytes, text, values, and the line of each value. Or its JSON form, which has no lines."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.errors import ConfigError, Problem
from gateway.settings.lines import Place, dotted, lines

LIMIT = 2**20
"""Bytes. A site file is written by people; ten thousand lines are a mistake."""

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_SYNTAX = (
    ("Expected '=' after a key", "there is no = after the key", 'write key = value, and texts in quotes: name = "x"'),
    ("Cannot overwrite a value", "the key stands here a second time", "remove one of the two"),
    ("Duplicate inline table key", "the key stands twice between { and }", "remove one of the two"),
    ("Cannot declare", "the table stands here a second time", "use [[...]] for one more bus, device or point"),
    ("Cannot redefine namespace", "the table stands here a second time", "use [[...]] for one more"),
    ("Cannot mutate immutable", "a table in { } cannot be added to later", "write all its keys between { and }"),
    ("at the end of a table declaration", "the ] of the table header is missing", "write [gateway]"),
    ("at the end of an array declaration", "the ]] of the table header is missing", "write [[bus]]"),
    ("Illegal character '\\n'", "a text is not closed on this line", 'put a " at its end'),
    ("Illegal character", "there is a character that must not stand here", "delete it and type the line again"),
    ("Expected \"'\"", "a text is not closed on this line", "put a ' at its end"),
    ("Unterminated string", "a text is not closed", 'put a " at its end'),
    ("Unclosed array", "a list is not closed", "put a ] at its end"),
    ("Unclosed inline table", "a table is not closed", "put a } at its end, on the same line"),
    ("Unescaped '\\'", "there is a \\ in a text", "write \\\\ for one \\, or use ' ' instead of quotes"),
    ("Expected newline or end of document", "there is something after the value", "one key = value per line"),
    ("Invalid initial character for a key part", "a key cannot begin like this", "keys are letters, digits, - and _"),
    ("Invalid statement", "this is not key = value", "write key = value, or # in front of a remark, or [table]"),
    ("Invalid date", "this is not a date", "write texts in quotes"),
    ("Invalid value", "the value cannot be read", 'write texts and durations in quotes: every = "10s"'),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Document:
    """A TOML file that could be parsed."""

    file: str
    data: dict[str, Any]
    lines: Mapping[Place, int]
    sha256: str

    def line(self, place: Place) -> int:
        """Return the line of a place, or of the nearest table around it."""
        while place not in self.lines:
            place = place[:-1]
        return self.lines[place]

    def problem(self, place: Place, text: str, advice: str = "") -> Problem:
        """Name what is wrong at a place."""
        return Problem(self.file, dotted(place), self.line(place), text, advice)

    def at(self, place: Place) -> Any:
        """Return what stands at a place."""
        value: Any = self.data
        for step in place:
            value = value[step]
        return value

    def table(self, key: str) -> dict[str, Any]:
        """Return a table at the top, empty when there is none (or something else in its place)."""
        value = self.data.get(key)
        return value if isinstance(value, dict) else {}

    def tables(self, place: Place) -> Iterator[tuple[int, dict[str, Any]]]:
        """Walk an array of tables, skipping what is none: a wrong neighbour must not hide other mistakes."""
        try:
            value = self.at(place)
        except (KeyError, TypeError):
            return
        if isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, dict):
                    yield index, item


def read(path: Path) -> Document:
    """Read and parse a TOML file, or the same as JSON when it is called .json. ConfigError says why not."""
    data = _bytes(path)
    text = _text(path, data).replace("\r\n", "\n")
    if path.suffix == ".json":
        return Document(str(path), _json(path, text), {(): 0}, hashlib.sha256(data).hexdigest())
    try:
        document = tomllib.loads(text)
        places = lines(text)
    except RecursionError:
        raise _wrong(path, "brackets are nested too deeply", "no value of this file needs more than three") from None
    except ValueError as error:
        raise _syntax(path, text, str(error)) from None
    return Document(str(path), document, places, hashlib.sha256(data).hexdigest())


def _wrong(path: Path, text: str, advice: str, line: int = 0) -> ConfigError:
    return ConfigError([Problem(str(path), "", line, text, advice)])


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(LIMIT + 1)
    except FileNotFoundError:
        raise _wrong(
            path,
            "there is no such file",
            "name the site file with --config or GATEWAY_CONFIG; config/gateway.toml is an example to copy",
        ) from None
    except IsADirectoryError:
        raise _wrong(path, "is a directory, not a file", "name the file in it, e.g. gateway.toml") from None
    except PermissionError:
        raise _wrong(path, "may not be read by this user", "use sudo, or join the group that owns the file") from None
    except OSError as error:
        raise _wrong(path, f"cannot be read: {error.strerror}", "check the path and the disk") from None
    if len(data) > LIMIT:
        raise _wrong(path, "is bigger than 1 MiB", "this is hardly a configuration; check the path")
    return data


def _text(path: Path, data: bytes) -> str:
    if data.startswith(_UTF16) or b"\0" in data[:4]:
        raise _wrong(
            path,
            "is written in UTF-16",
            'save it again as UTF-8 (in Windows Notepad: Save as, Encoding "UTF-8")',
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _wrong(
            path, "is not UTF-8 on this line", "save it again as UTF-8, or type the line again", line
        ) from None


def _json(path: Path, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except RecursionError:
        raise _wrong(path, "brackets are nested too deeply", "no value of this file needs more than three") from None
    except ValueError as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 0
        raise _wrong(path, f"this is not JSON: {error}", "look at the line before, too", line) from None
    if not isinstance(value, dict):
        raise _wrong(path, "this is not a JSON object", "write { ... } around it")
    return value


def _syntax(path: Path, text: str, message: str) -> ConfigError:
    found = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", message)
    what = message[: found.start()] if found else message
    line = int(found[1]) if found and found[1] else text.rstrip("\n").count("\n") + 1
    if what == "Cannot overwrite a value" and text.split("\n")[line - 1].lstrip().startswith("["):
        what = "Cannot declare"  # a table, once with [ ] and once with [[ ]]
    for part, sentence, advice in _SYNTAX:
        if part in what:
            return _wrong(path, sentence, advice, line)
    return _wrong(path, f"this is not TOML: {what}", "compare the line with config/gateway.toml", line)
