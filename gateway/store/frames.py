"""Finds the pages in a database's write-ahead log, without SQLite.

The format is in https://www.sqlite.org/fileformat2.html, section "The Write-Ahead Log".
"""

from __future__ import annotations

import struct
from typing import BinaryIO

_HEAD, _FRAME_HEAD = 32, 24
_ORDER = {0x377F0682: "<", 0x377F0683: ">"}
"""First word of a log -> order of the bytes in the words that its checksums add up."""


def committed(log: BinaryIO, size: int) -> dict[int, int]:
    """Page -> where in the log its newest committed content begins, for pages of this size."""
    newest: dict[int, int] = {}
    since_commit: dict[int, int] = {}
    log.seek(0)
    head = log.read(_HEAD)
    order = _ORDER.get(int.from_bytes(head[:4], "big"))
    if order is None or len(head) < _HEAD or head[8:12] != size.to_bytes(4, "big"):
        return newest
    sums = checksums(order, head[:24], (0, 0))
    if sums != struct.unpack(">II", head[24:]):
        return newest
    while len(frame := log.read(_FRAME_HEAD + size)) == _FRAME_HEAD + size:
        page, commits = struct.unpack(">II", frame[:8])
        sums = checksums(order, frame[:8] + frame[_FRAME_HEAD:], sums)
        if frame[8:16] != head[16:24] or sums != struct.unpack(">II", frame[16:24]):
            break  # of an earlier log, or torn
        since_commit[page] = log.tell() - size
        if commits:
            newest |= since_commit
            since_commit.clear()
    return newest


def checksums(order: str, data: bytes, sums: tuple[int, int]) -> tuple[int, int]:
    """Add the data to the two running sums of a log."""
    one, two = sums
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for word in words:
        one = (one + word + two) & 0xFFFFFFFF
        two = (two + next(words) + one) & 0xFFFFFFFF
    return one, two
