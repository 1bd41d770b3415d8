"""Where every key of a TOML document stands. A scanner, not a parser: tomllib has already accepted the text."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right

Place = tuple[str | int, ...]
"""The way to a value: table keys and 0-based places in arrays, e.g. ("bus", 0, "device", 1, "address")."""

_GAP = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_KEY = re.compile(r"""[ \t]*("(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)[ \t]*""")
_SCALAR = re.compile(
    r'''"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\]|\\.)*"|'[^']*'|[^,\]}#\n]+''',
    re.DOTALL,
)


def lines(text: str) -> dict[Place, int]:
    """Map every path of the document to its 1-based line: the line of its key, or of the array element.

    `text` must be valid TOML.
    """
    return _Scan(text.replace("\r\n", "\n")).document()


def dotted(path: Place) -> str:
    """Write a path as people do: bus[0].device[1].address."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if text else step
    return text


class _Scan:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._breaks = [at for at, char in enumerate(text) if char == "\n"]
        self._found: dict[Place, int] = {(): 1}
        self._sizes: dict[Place, int] = {}
        """Place of an array of tables -> how many [[headers]] it has had."""

    def document(self) -> dict[Place, int]:
        table: Place = ()
        while self._more(""):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
        return self._found

    def _more(self, end: str) -> bool:
        """Go to the next thing; false at the closing bracket `end` (which is taken) or at the end of the text."""
        while True:
            self._at = self._match(_GAP).end()
            char = self._text[self._at : self._at + 1]
            if char != ",":
                break
            self._at += 1
        if not char or char == end:
            self._at += 1
            return False
        return True

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str]:
        match = pattern.match(self._text, self._at)
        assert match is not None, "tomllib has accepted the text"
        return match

    def _line(self) -> int:
        return bisect_right(self._breaks, self._at - 1) + 1 if self._at else 1

    def _header(self) -> Place:
        line = self._line()
        array = self._text.startswith("[[", self._at)
        self._at += 2 if array else 1
        keys = self._keys()
        self._at += 2 if array else 1
        path: Place = ()
        for key in keys[:-1]:
            path = (*path, key)
            self._found.setdefault(path, line)
            if path in self._sizes:
                path = (*path, self._sizes[path] - 1)
        path = (*path, keys[-1])
        if array:
            self._found.setdefault(path, line)
            self._sizes[path] = self._sizes.get(path, 0) + 1
            path = (*path, self._sizes[path] - 1)
        self._found[path] = line
        return path

    def _keys(self) -> list[str]:
        keys = []
        while True:
            match = self._match(_KEY)
            self._at = match.end()
            key = match[1]
            if key[0] in "\"'":
                key = next(iter(tomllib.loads(f"{key} = 0")))
            keys.append(key)
            if self._text[self._at] != ".":
                return keys
            self._at += 1

    def _pair(self, table: Place) -> None:
        line = self._line()
        path = table
        for key in self._keys():
            path = (*path, key)
            self._found.setdefault(path, line)
        self._at += 1  # the equals sign
        self._value(path)

    def _value(self, path: Place) -> None:
        self._more("")
        char = self._text[self._at]
        if char == "[":
            self._at += 1
            place = 0
            while self._more("]"):
                self._found[(*path, place)] = self._line()
                self._value((*path, place))
                place += 1
        elif char == "{":
            self._at += 1
            while self._more("}"):
                self._pair(path)
        else:
            self._at = self._match(_SCALAR).end()
