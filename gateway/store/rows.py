"""How a batch becomes a row of the database and comes back. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from gateway.clock import CORRECTED, UNSYNCED
from gateway.model import Batch
from gateway.spans import Span, Spans

LANES = {"e": 0, "c": 1, "t": 2}
"""Stream -> lane: what is sent first has the smaller number, what is dropped first the larger."""
STREAMS = "ect"
_LANE = 61
_RUN = 40
LAST_SEQ = 2**_RUN - 1
LAST_RUN = 2 ** (_LANE - _RUN) - 1
_TOKEN = 16


def row_id(stream: str, run: int, seq: int) -> int:
    """Where a batch stands: lane, run and sequence number in one integer that sorts in the order of sending."""
    return LANES[stream] << _LANE | run << _RUN | seq


def parts(identity: int) -> tuple[str, int, int]:
    """Undo `row_id`: (stream, run, seq)."""
    return STREAMS[identity >> _LANE], identity >> _RUN & LAST_RUN, identity & LAST_SEQ


def lane(stream: str) -> Span:
    """First and last row id of a stream."""
    return row_id(stream, 0, 0), row_id(stream, LAST_RUN, LAST_SEQ)


def run_span(stream: str, run: int) -> Span:
    """First and last row id of a stream in one run."""
    return row_id(stream, run, 1), row_id(stream, run, LAST_SEQ)


def firsts(spans: Spans) -> list[int]:
    """The first row id of each stream in the set."""
    lanes = (spans.overlap(*lane(stream)) for stream in STREAMS)
    return [found[0][0] for found in lanes if found]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the agent, or of another one whose batches were imported: then `epoch` has a number of its own.

    `ended` is "" while it runs, then "clean" or "unclean"; `high` is the highest committed sequence number of each
    stream, in the order of STREAMS.
    """

    number: int
    epoch: str
    ended: str = ""
    high: tuple[int, int, int] = (0, 0, 0)

    @property
    def own(self) -> bool:
        """Whether this store's agent ran it."""
        return self.epoch.startswith(f"{self.number}-")

    def reached(self, identity: int) -> Run:
        """Return the run with the row's sequence number taken into its highest ones."""
        stream, _, seq = parts(identity)
        e, c, t = (max(high, seq) if name == stream else high for name, high in zip(STREAMS, self.high, strict=True))
        return replace(self, high=(e, c, t))


def last_own(runs: Mapping[int, Run]) -> int:
    """Number of the last run of this store's own agent; 0 when there is none."""
    return max((number for number, run in runs.items() if run.own), default=0)


class Row(NamedTuple):
    """A row of table `batch`, self-explaining: `origin` says epoch and boot id, `crc` covers it all."""

    id: int
    kept: int
    readings: int
    t0: int
    m0: int
    clk: str
    zipped: int
    origin: str
    crc: int
    data: bytes


def to_row(identity: int, batch: Batch, kept: bool) -> Row:
    number, _, token = batch.epoch.partition("-")
    own = number == str(parts(identity)[1]) and len(token) == _TOKEN
    origin = token + batch.boot if own else f"{batch.epoch} {batch.boot}"
    row = Row(identity, int(kept), batch.count, batch.t0, batch.m0, batch.clk, int(batch.zipped), origin, 0, batch.data)
    return row._replace(crc=_crc(row))


def to_batch(row: Row) -> Batch:
    """The batch of a row, marked historical: it comes from disk."""
    stream, _, seq = parts(row.id)
    epoch, boot = origin_of(row.id, row.origin)
    return Batch(epoch, stream, seq, boot, row.t0, row.m0, row.clk, row.readings, bool(row.zipped), row.data, True)


def corrected(batch: Batch, anchors: Mapping[str, int]) -> Batch:
    """Correct a time from before the clock was trusted, where the anchor of its boot is known."""
    if batch.clk == UNSYNCED and batch.boot in anchors:
        return replace(batch, t0=batch.m0 + anchors[batch.boot], clk=CORRECTED)
    return batch


def origin_of(identity: int, origin: str) -> tuple[str, str]:
    """(epoch, boot id) of a row: the short form leaves out the number, which stands in the row id."""
    epoch, space, boot = origin.partition(" ")
    if space:
        return epoch, boot
    return f"{parts(identity)[1]}-{origin[:_TOKEN]}", origin[_TOKEN:]


def is_whole(row: Row) -> bool:
    """Whether the row is what was written: flash forgets, and SQLite's pages carry no checksum."""
    shape = (int, int, int, int, int, str, int, str, int, bytes)
    return all(type(value) is kind for value, kind in zip(row, shape, strict=True)) and row.crc == _crc(row)


def _crc(row: Row) -> int:
    head = f"{row.id} {row.readings} {row.t0} {row.m0} {row.clk} {row.zipped} {row.origin}"
    return zlib.crc32(row.data, zlib.crc32(head.encode()))
