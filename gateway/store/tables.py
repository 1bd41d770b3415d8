"""Queries over the store's tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgpack

from gateway.errors import StoreDamaged
from gateway.spans import Span, Spans
from gateway.store.job import Figures, Found, Opened
from gateway.store.opening import PAGE, sizes
from gateway.store.rows import Run, lane, parts, run_span
from gateway.store.sound import is_sound

_ISLAND = """
SELECT count(*), min(id), max(id), sum(kept<>0), sum(CASE typeof(n) WHEN 'integer' THEN n END),
sum(CASE kept WHEN 1 THEN length(data) END) FROM batch WHERE id BETWEEN ? AND ?
"""
_ROWS = "SELECT id,kept<>0,n,CASE kept WHEN 1 THEN length(data) END FROM batch WHERE id BETWEEN ? AND ? ORDER BY id"
_FEW = 2048  # rows that are looked at one by one
# A damaged number of readings is found when its row is read.


def readings(db: sqlite3.Connection, span: Span) -> int:
    total = db.execute("SELECT sum(n) FROM batch WHERE id BETWEEN ? AND ?", span).fetchone()[0]
    return int(total or 0)


class Island(NamedTuple):
    """Consecutive rows of a kind. `size` is the bytes of kept ones."""

    first: int
    last: int
    kept: bool
    readings: int
    size: int


def islands(db: sqlite3.Connection) -> Iterator[Island]:
    """Every row of the table, as few islands; neighbours may be cut apart."""
    next_one = "SELECT id FROM batch WHERE id BETWEEN ? AND ? ORDER BY id LIMIT 1"
    at, end = 1, lane("t")[1]
    while found := db.execute(next_one, (at, end)).fetchone():
        stream, run, _ = parts(found[0])
        last = run_span(stream, run)[1]
        yield from _islands(db, found[0], last)
        at = last + 1


def _islands(db: sqlite3.Connection, first: int, last: int) -> Iterator[Island]:
    """Let SQLite look whether the rows are one island; else halve them: months of backlog have few holes."""
    count, low, high, kept, total, size = db.execute(_ISLAND, (first, last)).fetchone()
    if count and high - low + 1 == count and kept in (0, count):
        yield Island(low, high, bool(kept), total or 0, size or 0)
    elif count > _FEW:
        middle = (low + high) // 2
        yield from _islands(db, low, middle)
        yield from _islands(db, middle + 1, high)
    elif count:
        yield from _walked(db, low, high)


def _walked(db: sqlite3.Connection, low: int, high: int) -> Iterator[Island]:
    first = last = kept = readings = size = 0
    for identity, flag, count, length in db.execute(_ROWS, (low, high)):
        if identity != last + 1 or bool(flag) != kept:
            if last:
                yield Island(first, last, bool(kept), readings, size)
            first, kept, readings, size = identity, bool(flag), 0, 0
        last = identity
        readings += count if type(count) is int else 0
        size += length or 0
    yield Island(first, last, bool(kept), readings, size)


def small(db: sqlite3.Connection) -> Opened:
    """Read the small tables. StoreDamaged when they hold what was never written there."""
    for table in ("run", "state"):
        if not all(is_sound(table, row) for row in db.execute(f"SELECT * FROM {table}")):  # noqa: S608  (constants)
            raise StoreDamaged(f"table {table} holds nonsense")
    runs = {n: Run(n, epoch, ended, (e, c, t)) for n, epoch, ended, e, c, t in db.execute("SELECT * FROM run")}
    state = dict(db.execute("SELECT key,value FROM state WHERE key IN ('.lost','.anchors','.salvage')"))
    lost = {name: Spans(spans) for name, spans in msgpack.unpackb(state.get(".lost", b"\x80")).items()}
    anchors = msgpack.unpackb(state.get(".anchors", b"\x80"))
    births = {row[:2]: row[3] for row in db.execute("SELECT * FROM birth") if is_sound("birth", row)}
    return Opened(Found(runs=runs), lost, anchors, births, salvaging=state.get(".salvage", ""))


def anchors(db: sqlite3.Connection) -> dict[str, int]:
    """Boot id -> wall minus monotonic time in ms."""
    found = db.execute("SELECT value FROM state WHERE key='.anchors'").fetchone()
    return dict(msgpack.unpackb(found[0])) if found else {}


def oldest(db: sqlite3.Connection, streams: str, spared: frozenset[int]) -> tuple[int, int] | None:
    """Oldest row of the first of the streams that has any: (row id, readings)."""
    for stream in streams:
        query = "SELECT id,n FROM batch WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?"
        for identity, count in db.execute(query, (*lane(stream), 1 + len(spared))):
            if identity not in spared:
                return identity, count if isinstance(count, int) else 0  # else the row is damaged
    return None


def figures(db: sqlite3.Connection, path: Path, firsts: Sequence[int]) -> Figures:
    """How large the database is, and how old the oldest of these rows."""
    found = [db.execute("SELECT t0 FROM batch WHERE id=?", (identity,)).fetchone() for identity in firsts]
    oldest_at = min((row[0] for row in found if row and type(row[0]) is int), default=None)
    return Figures(oldest_at, sizes(path), pages_used(db) * PAGE)


def pages_used(db: sqlite3.Connection) -> int:
    """Pages that hold something."""
    pages, free = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count"))
    return int(pages - free)
