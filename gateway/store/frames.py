"""Finds the pages in a database's write-ahead log, also those that SQLite does not reach: behind a damaged one.

The format is in https://www.sqlite.org/fileformat2.html, section "The Write-Ahead Log". A frame is a page with a head;
its checksum goes on from that of the frame before it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

_HEAD, _FRAME_HEAD = 32, 24
_ORDER = {0x377F0682: "<", 0x377F0683: ">"}
"""First word of a log -> order of the bytes in the words that its checksums add up."""


@dataclass(slots=True)
class Log:
    """Page -> where in the log its newest content begins: what is `committed`, what was committed `behind` the damage,
    and what is there of a transaction whose end was hit, or was never written.
    """

    committed: dict[int, int] = field(default_factory=dict)
    behind: dict[int, int] = field(default_factory=dict)
    unfinished: dict[int, int] = field(default_factory=dict)
    damaged: bool = False


def is_damaged(path: Path, size: int) -> bool:
    """Whether the log has lost something that was synced. SQLite would take what is behind it for torn writes."""
    try:
        with path.open("rb") as log:
            return read(log, size).damaged
    except OSError:
        return False  # there is none, or SQLite will say why


def read(log: BinaryIO, size: int) -> Log:
    """Read a log of pages of this size.

    A power cut tears the last transaction only, and spares the head: more than one commit behind a broken frame, or
    any without a head, is damage.
    """
    found, since_commit, commits = Log(), dict[int, int](), 0
    log.seek(0)
    head = log.read(_HEAD).ljust(_HEAD, b"\0")
    order = _ORDER.get(int.from_bytes(head[:4], "big"), "<")
    unbroken = has_head = _is_sound(head, order)
    if has_head and head[8:12] != size.to_bytes(4, "big"):
        return found
    salts = head[16:24] if has_head else _salts(log, size)
    before = head[24:]
    for at, frame in _frames(log, size):
        fits = frame[8:16] == salts and frame[16:24] == checksum(order, frame[:8] + frame[_FRAME_HEAD:], before)
        before = frame[16:24]
        page, commit = struct.unpack(">II", frame[:8])
        unbroken = unbroken and fits
        if fits:
            since_commit[page] = at
        if fits and commit:
            (found.committed if unbroken else found.behind).update(since_commit)
            since_commit = {}
            commits += not unbroken
    found.damaged = commits > has_head
    found.unfinished = {} if unbroken else since_commit
    return found


def _frames(log: BinaryIO, size: int) -> Iterator[tuple[int, bytes]]:
    """Every whole frame, with where its page begins."""
    log.seek(_HEAD)
    while len(frame := log.read(_FRAME_HEAD + size)) == _FRAME_HEAD + size:
        yield log.tell() - size, frame


def _is_sound(head: bytes, order: str) -> bool:
    return int.from_bytes(head[:4], "big") in _ORDER and checksum(order, head[:24], bytes(8)) == head[24:]


def _salts(log: BinaryIO, size: int) -> bytes:
    """What marks the frames of a log that has lost its head: the first mark that two neighbours share."""
    last = b""
    for _, frame in _frames(log, size):
        if frame[8:16] == last and any(last):
            return last
        last = frame[8:16]
    return b""


def checksum(order: str, data: bytes, before: bytes) -> bytes:
    """Go on from the checksum before it to that of the data."""
    one, two = struct.unpack(">II", before)
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for word in words:
        one = (one + word + two) & 0xFFFFFFFF
        two = (two + next(words) + one) & 0xFFFFFFFF
    return struct.pack(">II", one, two)
