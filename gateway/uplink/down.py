"""What the IOC says on `dn/*`, checked and bounded. Pure. ValueError: the message does not follow the contract."""

from __future__ import annotations

from typing import NamedTuple

from gateway.model import Ranges
from gateway.uplink.payload.decode import unpack_map

MAX_BYTES = 64 * 1024
MAX_RANGES = 1024
_MAX_TEXT = 64
_MAX_SEQ = 2**62


class Told(NamedTuple):
    """Batches that the IOC names: those it has (`dn/ack`), or wants again (`dn/resend`)."""

    epoch: str
    stream: str
    ranges: Ranges

    @property
    def total(self) -> int:
        """How many batches are named."""
        return sum(last - first + 1 for first, last in self.ranges)


def told(payload: bytes) -> Told:
    """Read `{epoch, stream, ranges: [[a, b]...]}`."""
    body = unpack_map(payload, MAX_BYTES)
    match body:
        case {"epoch": str(epoch), "stream": ("t" | "e" | "c") as stream, "ranges": list(ranges)}:
            pass
        case _:
            raise ValueError("the message has not epoch, stream (t, e or c) and ranges")
    if len(epoch) > _MAX_TEXT or len(ranges) > MAX_RANGES:
        raise ValueError(f"the message has more than {MAX_RANGES} ranges, or a longer epoch than there is")
    return Told(epoch, stream, _joined([_range(item) for item in ranges]))


def rebirth(payload: bytes) -> tuple[str, str] | None:
    """Read `{device, cfg}`; None means all births."""
    body = unpack_map(payload, MAX_BYTES) if payload else {}
    match body:
        case {"device": str(device), "cfg": str(cfg)}:
            return device, cfg
        case {"device": _} | {"cfg": _}:
            raise ValueError("the message has not both device and cfg")
    return None


def _range(item: object) -> tuple[int, int]:
    match item:
        case [int(first), int(last)] if 1 <= first <= last <= _MAX_SEQ:
            return first, last
    raise ValueError(f"{item!r:.60} is not a range [a, b] with 1 <= a <= b")


def _joined(ranges: list[tuple[int, int]]) -> Ranges:
    """Ascending and disjoint."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = joined[-1][0], max(joined[-1][1], last)
        else:
            joined.append((first, last))
    return tuple(joined)
