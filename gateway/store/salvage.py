"""Reads what can still be read of a damaged database."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from gateway.spans import Spans
from gateway.store import pages
from gateway.store.opening import FAILURES, read_only
from gateway.store.rows import STREAMS, Row, is_whole, lane

_SELECT = "SELECT * FROM batch WHERE id BETWEEN ? AND ? ORDER BY id"


def rows(path: Path) -> Iterator[Row | None]:
    """Every row of the file that can be read and is whole; None now and then, where a page has none.

    SQLite's tree leads to most of them, in order. What stood below a damaged page of it is looked for on all pages.
    """
    reached = Spans()
    with contextlib.suppress(*FAILURES), contextlib.closing(read_only(path)) as db:
        for stream in STREAMS:
            for row in lane_rows(db, *lane(stream)):
                if is_whole(row):
                    reached.add(row.id)
                    yield row
    for found in pages.rows(path, reached):
        if found is None:
            yield None
        elif is_whole(found):
            reached.add(found.id)  # the page may be there twice
            yield found


def table(path: Path, query: str) -> list[tuple[object, ...]]:
    """The rows of a small table; nothing when it cannot be read."""
    with contextlib.suppress(*FAILURES), contextlib.closing(read_only(path)) as db:
        return db.execute(query).fetchall()
    return []


def lane_rows(db: sqlite3.Connection, first: int, last: int) -> Iterator[Row]:
    """Read upwards; behind a damaged page go on in growing steps, then read back down to it."""
    step, bad = 0, first
    while first <= last:
        try:
            for found in db.execute(_SELECT, (first, last)):
                row = Row(*found)
                if row.id < first:
                    continue  # a page in another's place: following it would lead round in circles
                if step:
                    yield from _back(db, bad, first - 1)
                    step = 0
                yield row
                first = row.id + 1
        except FAILURES:
            bad = bad if step else first
            step = 2 * step or 1
            first += step
        else:
            break
    if step:
        yield from _back(db, bad, last)


def _back(db: sqlite3.Connection, first: int, last: int) -> Iterator[Row]:
    """Read downwards until the damage."""
    with contextlib.suppress(*FAILURES):
        for found in db.execute(_SELECT + " DESC", (first, last)):
            yield Row(*found)
