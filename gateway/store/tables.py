"""Queries over the store's tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain
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
    """Every row of the table, as few islands; neighbours may be cut apart.

    StoreDamaged where a search from below and one from above do not meet: a damaged row id hides its neighbours, and
    with damaged words of the schema `id` is not the row's own number any more.
    """
    next_one = "SELECT id FROM batch WHERE id BETWEEN ? AND ? ORDER BY id LIMIT 1"
    at, end, highest = 1, lane("t")[1], None
    while found := db.execute(next_one, (at, end)).fetchone():
        _meet(highest, db.execute("SELECT max(rowid) FROM batch WHERE rowid<?", found))
        stream, run, _ = parts(found[0])
        at = run_span(stream, run)[1] + 1
        for island in _islands(db, found[0], at - 1):
            highest = island.last
            yield island
    _meet(highest, db.execute("SELECT max(rowid) FROM batch"))


def _meet(highest: int | None, from_above: sqlite3.Cursor) -> None:
    (lowest,) = from_above.fetchone()
    if lowest != highest:
        raise StoreDamaged(f"after row {highest} comes row {lowest}, and a search does not find it")


def _islands(db: sqlite3.Connection, first: int, last: int) -> Iterator[Island]:
    """Let SQLite look whether the rows are one island; else halve them: months of backlog have few holes."""
    count, low, high, kept, total, size = db.execute(_ISLAND, (first, last)).fetchone()
    if count and low < first:
        raise StoreDamaged(f"row {low} is not in its place")
    if count and high - low + 1 == count and kept in (0, count):
        yield Island(low, high, bool(kept), total or 0, size or 0)
    elif count > _FEW:
        middle = (low + high) // 2
        for island in chain(_islands(db, low, middle), _islands(db, middle + 1, high)):
            count -= island.last - island.first + 1
            yield island
        if count:
            raise StoreDamaged(f"between rows {low} and {high} a search does not find {count} rows")
    elif count:
        yield from _walked(db, first, last)


def _walked(db: sqlite3.Connection, low: int, high: int) -> Iterator[Island]:
    first, last, kept, readings, size = low, low - 1, False, 0, 0
    for identity, flag, count, length in db.execute(_ROWS, (low, high)):
        if not last < identity <= high:
            raise StoreDamaged(f"row {identity} is not in its place")
        if identity != last + 1 or bool(flag) != kept:
            if last >= first:
                yield Island(first, last, kept, readings, size)
            first, kept, readings, size = identity, bool(flag), 0, 0
        last = identity
        readings += count if type(count) is int else 0
        size += length or 0
    yield Island(first, last, kept, readings, size)


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
