"""The open batch: what has been read and not yet been closed. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from drivers.base import GOOD, Sample
from gateway.model import Readings

BATCH_BYTES = 48 * 1024
"""No batch's blocks are larger than this before compression (contract section 2)."""
_ROW = 9  # a row's time
_VALUE = 10  # the longest number in MessagePack, and its share of the array's head
_FLAW = 14  # [point, row, code] without the code's text
_GROUP = 48  # a block's arrays
_COLUMN = 16  # a column's arrays and exponent, the head of its point's name
_CHAR = 4  # UTF-8 at its longest
_INT64 = 2**63


class Open:
    """Readings on their way into one batch.

    `m0` (monotonic ms) and `t0` (wall ms) are the same instant, `since` the monotonic seconds of the first reading.
    `size` is never less than the size of the encoded blocks.
    """

    __slots__ = ("_known", "clk", "count", "m0", "readings", "since", "size", "t0")

    def __init__(self, m0: int, t0: int, clk: str, since: float) -> None:
        self.m0, self.t0, self.clk, self.since = m0, t0, clk, since
        self.readings: list[Readings] = []
        self.count = 0
        self.size = 8
        self._known: set[tuple[str, str, tuple[str, ...]]] = set()

    def add(self, readings: Readings, size: int) -> bool:
        """Take the readings, `size` being their `measure`; false, and nothing happens, when they do not fit."""
        device, cfg, _, samples = readings
        key = (device, cfg, tuple([sample[0] for sample in samples]))
        if key not in self._known:
            size += group_size(*key)
        if self.readings and self.size + size > BATCH_BYTES:
            return False
        self._known.add(key)
        self.readings.append(readings)
        self.count += len(samples)
        self.size += size
        return True

    @property
    def full(self) -> bool:
        """Whether even the smallest addition would be too much."""
        return self.size + _ROW + _VALUE > BATCH_BYTES


def measure(samples: Sequence[Sample]) -> int:
    """Bytes that the samples take in a block at most, the names of their points aside."""
    size = _ROW + _VALUE * len(samples)
    for _, value, quality in samples:
        if quality != GOOD:
            size += _FLAW + len(quality)
        kind = type(value)
        if kind is float:
            if value - value != 0.0:  # type: ignore[operator]  # not finite: it will be marked bad
                size += 2 * _FLAW
        elif kind is int:
            if not -_INT64 <= value < _INT64:  # type: ignore[operator]  # an int, as kind says
                size += 2 * _FLAW
        elif kind is str:
            size += _CHAR * len(value)  # type: ignore[arg-type]  # a str, as kind says
    return size


def group_size(device: str, cfg: str, names: tuple[str, ...]) -> int:
    """Bytes that a block takes without its rows at most."""
    return _GROUP + _CHAR * (len(device) + len(cfg)) + sum(_COLUMN + _CHAR * len(name) for name in names)


def pieces(readings: Readings) -> Iterator[tuple[Readings, int]]:
    """Cut what is too large for one batch; gives (readings, measure)."""
    device, cfg, _, samples = readings
    size = measure(samples)
    whole = size + group_size(device, cfg, tuple([sample[0] for sample in samples])) if size > BATCH_BYTES // 16 else 0
    if whole + 8 <= BATCH_BYTES or len(samples) < 2:  # the link's 4 KiB bound a single sample
        yield readings, size
        return
    half = len(samples) // 2
    yield from pieces(readings._replace(samples=samples[:half]))
    yield from pieces(readings._replace(samples=samples[half:]))
