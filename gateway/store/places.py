"""The places where a batch can be. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.model import Batch
from gateway.spans import Spans

CLOSED_OVERHEAD = 512
"""Bytes of memory that a closed batch takes beside its data."""


@dataclass(slots=True)
class Count:
    readings: int = 0
    batches: int = 0

    def add(self, readings: int, batches: int) -> None:
        self.readings += readings
        self.batches += batches


@dataclass(slots=True)
class Closed:
    """A batch in memory. `at` is when it was closed, in monotonic seconds.

    `again`: released, so historical. `stored`: committed (strict keeps such for a while). `doubtful`: its commit
    failed, so it may be on disk all the same.
    """

    batch: Batch
    at: float
    taken: bool = False
    again: bool = False
    settled: bool = False
    stored: bool = False
    doubtful: bool = False

    @property
    def size(self) -> int:
        return len(self.batch.data) + CLOSED_OVERHEAD


@dataclass(slots=True)
class Queue:
    """What waits, smallest row id first: in `memory` (a heap), and on `disk`, from where the next come as a `chunk`."""

    memory: list[int] = field(default_factory=list)
    disk: Spans = field(default_factory=Spans)
    chunk: deque[tuple[int, Batch]] = field(default_factory=deque)
    fetching: bool = False
    stale: bool = False

    def back(self, first: int, last: int) -> None:
        """Put rows back that may stand before those already fetched."""
        self.disk.add(first, last)
        self.chunk.clear()
        self.stale = self.fetching


def inside(table: Mapping[int, object], first: int, last: int) -> list[int]:
    """Keys of the table from `first` to `last`."""
    if last - first < len(table):
        return [identity for identity in range(first, last + 1) if identity in table]
    return [identity for identity in table if first <= identity <= last]
