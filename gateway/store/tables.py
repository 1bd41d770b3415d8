"""Queries over the store's tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import msgpack

from gateway.store.job import Found, Opened
from gateway.store.rows import Run, lane
from gateway.store.spans import Span, Spans


def readings(db: sqlite3.Connection, span: Span) -> int:
    total = db.execute("SELECT sum(n) FROM batch WHERE id BETWEEN ? AND ?", span).fetchone()[0]
    return int(total or 0)


def islands(db: sqlite3.Connection) -> Iterator[tuple[int, int, int, int, int]]:
    """Consecutive rows of a kind: (first id, last id, kept, readings, bytes if kept)."""
    query = "SELECT id,kept,n,CASE kept WHEN 1 THEN length(data) END FROM batch WHERE id BETWEEN 1 AND ? ORDER BY id"
    first = last = kept = readings = size = 0
    for identity, flag, count, length in db.execute(query, (lane("t")[1],)):
        if identity != last + 1 or flag != kept:
            if last:
                yield first, last, kept, readings, size
            first, kept, readings, size = identity, flag, 0, 0
        last = identity
        readings += count if type(count) is int else 0  # a damaged number is found when the row is read
        size += length or 0
    if last:
        yield first, last, kept, readings, size


def small(db: sqlite3.Connection) -> Opened:
    """Read the small tables."""
    runs = {n: Run(n, epoch, ended, (e, c, t)) for n, epoch, ended, e, c, t in db.execute("SELECT * FROM run")}
    state = dict(db.execute("SELECT key,value FROM state WHERE key IN ('.lost','.anchors','.salvage')"))
    lost = {name: Spans(spans) for name, spans in msgpack.unpackb(state.get(".lost", b"\x80")).items()}
    anchors = msgpack.unpackb(state.get(".anchors", b"\x80"))
    births = {(device, cfg): last for device, cfg, last in db.execute("SELECT device,cfg,last FROM birth")}
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
                return identity, count
    return None
