"""Looks through a store for damage: the structure of the file, and the checksum of every batch. Changes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from gateway.spans import Spans
from gateway.store import look, opening, pages
from gateway.store.rows import STREAMS, is_whole, lane, parts

_INSTRUCTIONS = 20_000
"""Of SQLite's machine between two looks whether somebody wants to stop."""
_MOST_LINES = 20


class Found(NamedTuple):
    """A batch that was looked at. `bytes` of data; `whole` when its checksum fits."""

    stream: str
    run: int
    seq: int
    readings: int
    bytes: int
    whole: bool


def structure(db: sqlite3.Connection) -> list[str]:
    """Let SQLite check every page; returns what is wrong in its words, [] when nothing is.

    `quick_check` would leave out the comparison with indices, of which the batches have none: it takes as long.
    """
    db.set_progress_handler(lambda: 0, _INSTRUCTIONS)  # does nothing: Python notices Ctrl-C when it is called
    try:
        lines = [str(line) for (line,) in db.execute(f"PRAGMA integrity_check({_MOST_LINES})")]
    except opening.FAILURES as error:
        if opening.code(error) == sqlite3.SQLITE_INTERRUPT:
            raise KeyboardInterrupt from None
        if isinstance(opening.judge(error), opening.DiskFailed):
            raise
        lines = [str(error)]
    finally:
        db.set_progress_handler(None, 0)
    return [] if lines == ["ok"] else lines


def batches(db: sqlite3.Connection, path: Path, *, broken: bool) -> Iterator[Found]:
    """Every batch that can be read at all; of a file whose structure is `broken` also those that nothing leads to."""
    whole = Spans()
    by_tree = (row for stream in STREAMS for row in look.rows(db, *lane(stream)))
    by_page = (row for row in pages.rows(path, whole) if row is not None and is_whole(row))
    for row in chain(by_tree, by_page if broken else ()):
        count = row.readings if type(row.readings) is int else 0
        size = len(row.data) if isinstance(row.data, bytes) else 0
        found = Found(*parts(row.id), count, size, is_whole(row))
        if found.whole:
            whole.add(row.id)
        yield found


def data_bytes(db: sqlite3.Connection) -> int:
    """Bytes of all batches, for a bar; 0 when the damage does not let them be summed."""
    try:
        return int(db.execute("SELECT sum(length(data)) FROM batch").fetchone()[0] or 0)
    except opening.FAILURES:
        return 0
