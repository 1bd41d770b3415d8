"""Values in registers, the simulator's own way. Pure.

Written apart from the drivers' codec on purpose: an error made in both places would hide itself.
"""

from __future__ import annotations

import math
import struct
from typing import Protocol, cast

from drivers.base import Point, Value

Raw = float | int | bool | str
"""What a register carries, before scale, offset and labels."""

BIT_TABLES = frozenset({"coil", "discrete"})

_INTEGERS = {
    "u16": (2, False),
    "s16": (2, True),
    "u32": (4, False),
    "s32": (4, True),
    "u64": (8, False),
    "s64": (8, True),
}
_FLOATS = {"f32": (">f", 4), "f64": (">d", 8)}
_WHOLE = 2.0**50
_LOW_WORD_FIRST = frozenset({"CDAB", "DCBA", "GHEFCDAB", "HGFEDCBA"})
_LOW_BYTE_FIRST = frozenset({"BA", "BADC", "DCBA", "BADCFEHG", "HGFEDCBA"})


class Where(Protocol):
    """What a point's address must offer. `bit` is a number, or (first, length) for type "bits"."""

    @property
    def table(self) -> str: ...
    @property
    def at(self) -> int: ...
    @property
    def type(self) -> str: ...
    @property
    def order(self) -> str: ...
    @property
    def bit(self) -> int | tuple[int, int] | None: ...
    @property
    def count(self) -> int: ...


def where(point: Point) -> Where:
    """The point's register."""
    return cast("Where", point.where)


def field(at: Where) -> tuple[int, int] | None:
    """(first bit, length) of a value that is only a part of one register; None when it fills its registers."""
    if at.type == "u8hi":
        return 8, 8
    if at.type == "u8lo":
        return 0, 8
    if at.type == "bits":
        first, length = at.bit if isinstance(at.bit, tuple) else (at.bit or 0, 1)
        return first, length
    if at.type == "bit" and at.table not in BIT_TABLES:
        return cast("int", at.bit or 0), 1
    return None


def integer_range(at: Where) -> tuple[int, int] | None:
    """Smallest and largest raw integer; None for floats and text."""
    part = field(at)
    if part is not None:
        return 0, (1 << part[1]) - 1
    if at.type in _INTEGERS:
        size, signed = _INTEGERS[at.type]
        bits = 8 * size
        return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    if at.type == "bcd":
        return 0, int(10 ** (4 * at.count)) - 1
    return (0, 1) if at.type == "bit" else None


def reorder(data: bytes | bytearray, order: str, *, text: bool = False) -> bytes | bytearray:
    """Big-endian bytes to the bytes on the wire, and back: every order is its own inverse."""
    if order in _LOW_BYTE_FIRST:
        data = b"".join(bytes((data[i + 1], data[i])) for i in range(0, len(data), 2))
    if order in _LOW_WORD_FIRST and not text:
        data = b"".join(data[i : i + 2] for i in range(len(data) - 2, -2, -2))
    return data


def put(at: Where, raw: Raw, block: bytearray, offset: int) -> None:
    """Write a raw value into a block: two bytes a register, or one byte (0 or 1) a bit of a bit table."""
    part = field(at)
    if at.table in BIT_TABLES:
        block[offset] = bool(raw)
    elif part is not None:
        first, length = part
        mask = ((1 << length) - 1) << first
        word = int.from_bytes(reorder(block[offset : offset + 2], at.order), "big") & ~mask | (int(raw) << first) & mask
        block[offset : offset + 2] = reorder(word.to_bytes(2, "big"), at.order)
    else:
        block[offset : offset + 2 * at.count] = reorder(_big_endian(at, raw), at.order, text=at.type == "string")


def _big_endian(at: Where, raw: Raw) -> bytes:
    if isinstance(raw, str):
        return raw.encode()[: 2 * at.count].ljust(2 * at.count, b"\0")
    if at.type in _FLOATS:
        return struct.pack(_FLOATS[at.type][0], raw)
    if at.type == "bcd":
        return bytes.fromhex(f"{int(raw):0{4 * at.count}d}")
    size, signed = _INTEGERS[at.type]
    return int(raw).to_bytes(size, "big", signed=signed)


def get(at: Where, block: bytes, offset: int) -> Raw | None:
    """Read a raw value back; None when the registers hold nothing of this type (a BCD digit above 9, broken text)."""
    if at.table in BIT_TABLES:
        return bool(block[offset])
    part = field(at)
    if part is not None:
        number = int.from_bytes(reorder(block[offset : offset + 2], at.order), "big") >> part[0] & (1 << part[1]) - 1
        return bool(number) if at.type == "bit" else number
    data = reorder(block[offset : offset + 2 * at.count], at.order, text=at.type == "string")
    if at.type == "string":
        try:
            return data.split(b"\0")[0].decode().rstrip()
        except UnicodeDecodeError:
            return None
    if at.type == "f32":
        return shortest(struct.unpack(">f", data)[0])
    if at.type == "f64":
        return float(struct.unpack(">d", data)[0])
    if at.type == "bcd":
        return int(data.hex()) if data.hex().isdecimal() else None
    return int.from_bytes(data, "big", signed=_INTEGERS[at.type][1])


def shortest(number: float) -> float:
    """The shortest decimal that is this same float32: 230.2, not 230.1999969482422. Whole numbers stay, up to 2^50."""
    if not math.isfinite(number) or (number == int(number) and abs(number) < _WHOLE):
        return number
    for digits in range(1, 9):
        short = float(f"{number:.{digits}g}")
        try:
            if struct.unpack(">f", struct.pack(">f", short))[0] == number:
                return short
        except OverflowError:  # rounded up beyond the largest float32
            continue
    return float(f"{number:.9g}")


def value(point: Point, raw: Raw | None) -> Value:
    """What a correct driver makes of a raw value: None for a sentinel or what cannot be read."""
    if raw is None or isinstance(raw, str):
        return raw
    if not math.isfinite(raw) or raw in point.sentinels:
        return None
    if point.labels:
        return point.labels.get(int(raw), int(raw))
    scaled = raw if point.scale == 1.0 and not point.offset else raw * point.scale + point.offset
    return round(scaled, point.decimals) if point.decimals is not None and isinstance(scaled, float) else scaled
