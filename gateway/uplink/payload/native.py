"""The native payload: columnar MessagePack. Pure.

A batch's readings are encoded once, when the batch closes, and stored in that form; the small envelope around them is
written each time the batch is published.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from math import isfinite
from operator import sub
from typing import Any

import msgpack

from drivers.base import BAD_DECODE, GOOD, Value
from gateway.model import Batch, Readings
from gateway.uplink.payload.decode import Block, decode
from gateway.uplink.payload.envelope import envelope, in_parts

__all__ = ["coded", "decode", "encode_blocks", "message", "split"]

Key = tuple[str, str, Sequence[str]]
"""What the rows of a block have in common: (device, cfg, names of the points)."""

_ZIP_ABOVE = 256
_SMALL = 4096  # below, the highest level costs nothing and saves 1 %; above, it costs a third more time for nothing
_FIFTEEN_DIGITS = 10**15  # a double carries every decimal of 15 digits: n / 10^k gives back the very same double
_POWERS = tuple(10**k for k in range(23))  # up to 10^22 a power of ten is an exact double
_QUICK = tuple((k, 10**k) for k in range(7))  # decimals tried by multiplying: quicker than by way of the text
_QUICK_BELOW = 1e9  # such numbers keep to 15 digits
_INT64 = 2**63
_UINT64 = 2**64

_FLOAT: set[type] = {float}
_INT: set[type] = {int}
_NUMBER: set[type] = {float, int}
_NONE = type(None)


def encode_blocks(readings: Sequence[Readings], m0: int) -> tuple[bool, bytes]:
    """Encode a batch's readings as (zipped, MessagePack of the blocks); `m0` is the batch's monotonic time in ms.

    Decoding gives every value back exactly. What no receiver could take (not finite, beyond 64 bits) becomes null, and
    `bad:decode` unless its quality already says why.
    """
    groups: dict[Key, tuple[list[int], list[tuple[Value, ...]], list[list[Any]]]] = {}
    for device, cfg, at, samples in readings:
        if not samples:
            continue
        names, values, qualities = zip(*samples, strict=True)
        key = (device, cfg, names)
        group = groups.get(key)
        if group is None:
            group = groups[key] = ([], [], [])
        times, rows, flaws = group
        if qualities.count(GOOD) != len(qualities):
            flaws += ([point, len(rows), code] for point, code in enumerate(qualities) if code != GOOD)
        times.append(at)
        rows.append(values)
    return _packed(
        [
            _block(key, [at - m0 for at in times], list(zip(*rows, strict=True)), flaws)
            for key, (times, rows, flaws) in groups.items()
        ]
    )


def message(gateway: str, batch: Batch, part: tuple[int, int] | None = None) -> bytes:
    """The batch as it goes on the wire: a new envelope around the data as it is stored."""
    head = envelope(gateway, batch, part)
    if batch.stream == "t":
        return _sealed(head, batch.zipped, batch.data)
    return _pack(head | {k: v for k, v in msgpack.unpackb(batch.data).items() if k not in head})


def split(gateway: str, batch: Batch, limit: int) -> list[bytes]:
    """The batch as messages of at most `limit` bytes each: the whole, or numbered parts (UplinkError: impossible)."""
    whole = message(gateway, batch)
    if len(whole) <= limit:
        return [whole]
    return in_parts(gateway, batch, limit, _written)


def _written(head: dict[str, Any], blocks: Sequence[Block]) -> bytes:
    return _sealed(head, *_packed([coded(block) for block in blocks]))


def coded(block: Block) -> Sequence[Any]:
    """A block as the contract writes it: [device, cfg, points, dt, columns, quality]."""
    return _block((block.device, block.cfg, block.points), block.times, block.columns, list(block.flaws))


def _block(
    key: Key, times: Sequence[int], columns: Sequence[Sequence[Value]], flaws: list[list[Any]]
) -> tuple[Any, ...]:
    """One device's rows as the contract writes them; `times` are relative to the batch's t0."""
    if len(times) == 1:
        coded = [_lone(c[0]) or _column(c, i, flaws) for i, c in enumerate(columns)]
    else:
        coded = [_column(c, i, flaws) for i, c in enumerate(columns)]
    return *key, _deltas(times), coded, flaws


def _lone(value: Value) -> Sequence[Any] | None:
    """A column of one row, the quick way for what meters send; None: _column knows."""
    if type(value) is float:
        if -_QUICK_BELOW < value < _QUICK_BELOW:
            for places, power in _QUICK:
                n = round(value * power)
                if n / power == value:
                    return -places, (n,)
    elif type(value) is int and -_INT64 <= value < _INT64:
        return 0, (value,)
    return None


def _column(values: Sequence[Value], index: int, flaws: list[list[Any]]) -> list[Any]:
    """One point's values: [exp, delta-coded ints] where that is exact, else [null, values]."""
    kinds = set(map(type, values))
    numbers: Sequence[Any] = values
    if _NONE in kinds:
        kinds.discard(_NONE)
        numbers = [value for value in values if value is not None]
    coded: list[Any] | None = None
    if kinds == _INT:
        deltas = _deltas(numbers)
        if min(deltas) >= -_INT64 and max(deltas) < _INT64:
            coded = [0, deltas]
    elif kinds in (_FLOAT, _NUMBER):
        coded = _scaled(numbers)
    if coded is None:
        return [None, [_carried(value, index, row, flaws) for row, value in enumerate(values)]]
    if len(numbers) != len(values):
        rest = iter(coded[1])
        coded[1] = [None if value is None else next(rest) for value in values]
    return coded


def _scaled(numbers: Sequence[float]) -> list[Any] | None:
    """Decimals as [exp, delta-coded ints], exp <= 0 and shared; None where that would not give them back exactly."""
    try:
        places = _decimals(numbers[0])
        ints = _times(numbers, places)
        if ints is None:
            places = max(map(_decimals, numbers))
            ints = _times(numbers, places)
    except (OverflowError, ValueError):  # not finite, or too large to scale
        return None
    if ints is None or max(ints) >= _FIFTEEN_DIGITS or min(ints) <= -_FIFTEEN_DIGITS:
        return None
    return [-places, _deltas(ints)]


def _times(numbers: Sequence[float], places: int) -> list[int] | None:
    """The numbers times 10^places, None unless all are integers then."""
    power = _POWERS[places]
    ints = [round(number * power) for number in numbers]
    return ints if all(n / power == number for n, number in zip(ints, numbers, strict=True)) else None


def _decimals(number: float) -> int:
    """How many decimals the shortest form of the number has, at most 22."""
    for places, power in _QUICK:
        if round(number * power) / power == number:
            return places
    mantissa, _, exponent = repr(number).partition("e")
    return min(max(len(mantissa.partition(".")[2]) - int(exponent or 0), 0), 22)


def _carried(value: Value, index: int, row: int, flaws: list[list[Any]]) -> Value:
    """The value, or None and a flaw where MessagePack or JSON cannot carry it."""
    kind = type(value)
    if (kind is float and not isfinite(value)) or (kind is int and not -_INT64 <= value < _UINT64):  # type: ignore[arg-type,operator]  # kind says it
        if not any(flaw[0] == index and flaw[1] == row for flaw in flaws):
            flaws.append([index, row, BAD_DECODE])
        return None
    return value


def _deltas(ints: Sequence[int]) -> list[int]:
    return [ints[0], *map(sub, ints[1:], ints)] if len(ints) > 1 else list(ints)


def _packed(blocks: Sequence[Any]) -> tuple[bool, bytes]:
    """(zipped, data): compressed where that helps."""
    raw = _pack(blocks)
    if len(raw) > _ZIP_ABOVE:
        small = zlib.compress(raw, 9 if len(raw) < _SMALL else 6)
        if len(small) < len(raw):
            return True, small
    return False, raw


def _sealed(head: dict[str, Any], zipped: bool, data: bytes) -> bytes:
    return _pack(head | ({"z": "zlib", "d": data} if zipped else {"d": data}))


def _pack(value: object) -> bytes:
    packed: bytes = msgpack.packb(value, unicode_errors="replace")  # a lone surrogate must not stop the agent
    return packed
