"""Reads what can still be read of a damaged database."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from gateway.spans import Spans
from gateway.store import pages
from gateway.store.opening import FAILURES, read_only
from gateway.store.rows import STREAMS, Row, is_whole, lane
from gateway.store.sound import SHAPES, is_sound

_SELECT = "SELECT * FROM batch WHERE id BETWEEN ? AND ? ORDER BY id"


def rows(path: Path) -> Iterator[Row | None]:
    """Every row of the file that can be read and is whole; None now and then, where a page has none.

    SQLite's tree leads to most of them, in order. What stood below a damaged page of it is looked for on all pages.
    """
    reached = Spans()
    for found in chain(_by_tree(path), pages.rows(path, reached)):
        if found is None:
            yield None
        elif is_whole(found):
            reached.add(found.id)  # its page may be there twice
            yield found


def _by_tree(path: Path) -> Iterator[Row]:
    with contextlib.suppress(*FAILURES), contextlib.closing(read_only(path)) as db:
        for stream in STREAMS:
            yield from lane_rows(db, *lane(stream))


def small(path: Path) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The rows of the small tables that can be read and are sound: (table, row), those last written first."""
    behind = list(pages.behind(path))
    for table, shape in SHAPES.items():
        rows = chain(behind, _by_query(path, f"SELECT * FROM {table}"))  # noqa: S608  (constants only)
        yield from ((table, row) for row in rows if len(row) == len(shape) and is_sound(table, row))


def _by_query(path: Path, query: str) -> list[tuple[Any, ...]]:
    with contextlib.suppress(*FAILURES), contextlib.closing(read_only(path)) as db:
        return db.execute(query).fetchall()
    return []


def lane_rows(db: sqlite3.Connection, first: int, last: int) -> Iterator[Row]:
    """Read upwards; behind a damaged page go on in growing steps, then read back down to it."""
    step, bad = 0, first
    while first <= last:
        try:
            for found in db.execute(_SELECT, (first, last)):
                row = as_row(found)
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
            yield as_row(found)


def as_row(found: tuple[Any, ...]) -> Row:
    """Take what a query for all columns has found. sqlite3.DatabaseError when the schema has lost one."""
    if len(found) != len(Row._fields):
        raise sqlite3.DatabaseError(f"table batch has {len(found)} columns instead of {len(Row._fields)}")
    return Row(*found)
