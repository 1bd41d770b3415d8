"""Register bytes <-> raw values: one codec for both directions, working on the byte string."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from operator import itemgetter

from drivers.base import Point, Value
from drivers.modbus.register import BIT_TABLES, ORDERS, Register, register_of

Raw = int | float | bool | str
Reader = Callable[[bytes], Raw | None]
"""Takes the value out of a reply. None: the bytes are no value of this type (a BCD digit of 15, text not UTF-8)."""

_FORMATS = {"u16": "H", "s16": "h", "u32": "I", "s32": "i", "u64": "Q", "s64": "q", "f32": "f", "f64": "d"}
_FLOATS = frozenset({"f32", "f64"})


def decode(register: Register, data: bytes) -> Raw | None:
    """The raw value of a register from its own bytes (a coil: bit 0 of one byte)."""
    return reader(register, register.at)(data)


def reader(register: Register, first: int, skip: int = 0) -> Reader:
    """Prepare the decoding of a register out of a block that begins at address `first`, behind `skip` other bytes."""
    if register.table in BIT_TABLES:
        byte, bit = divmod(register.at - first, 8)
        place, mask = skip + byte, 1 << bit
        return lambda data: data[place] & mask != 0
    at = skip + 2 * (register.at - first)
    if register.type == "string":
        pick = _picker(register, at)
        return lambda data: _text(pick(data))
    if register.type == "bcd":
        pick = _picker(register, at)
        return lambda data: _bcd(pick(data))
    if register.field:
        return _field_reader(register, at)
    return _number_reader(register, at)


def block(
    registers: Sequence[Register], first: int
) -> tuple[struct.Struct, list[Callable[[float], Raw | None]]] | None:
    """Decode a whole block of numbers at once: how it is laid out from address `first` on, and what tidies each number.

    None when it cannot be done so: other types, byte orders, or values that share registers. Costs a third per value.
    """
    layout, at, tidies = ">", first, []
    for register in registers:
        swap = ORDERS[register.order]
        swapped = swap.bytes or (swap.words and register.count > 1)
        if register.type not in _FORMATS or register.field or swapped or register.at < at:
            return None
        layout += f"{2 * (register.at - at)}x{_FORMATS[register.type]}"
        at = register.end
        tidies.append(_tidy(register.type))
    return struct.Struct(layout), tidies


def encode(register: Register, raw: Raw) -> bytes:
    """The bytes of a raw value; ValueError when it does not fit. A part of a register stands among zero bits."""
    if register.table in BIT_TABLES:
        return bytes((_bit(raw),))
    if register.type == "string":
        natural = _text_bytes(register, raw)
    elif register.type == "bcd":
        natural = _bcd_bytes(register, raw)
    elif register.field:
        first, many = register.field
        number = _bit(raw) if register.type == "bit" else _whole(raw)
        if not 0 <= number < 1 << many:
            raise ValueError(f"{raw} does not fit the {many} bits of this value")
        natural = (number << first).to_bytes(2, "big")
    else:
        natural = _number_bytes(register, raw)
    return _reorder(register, natural)


def merge(register: Register, old: bytes, raw: Raw) -> bytes:
    """The two bytes of a register with one part of it changed."""
    first, many = register.field or (0, 16)
    mask = int.from_bytes(_reorder(register, (((1 << many) - 1) << first).to_bytes(2, "big")), "big")
    new = int.from_bytes(encode(register, raw), "big")
    return (int.from_bytes(old, "big") & ~mask | new).to_bytes(2, "big")


def raw_of(point: Point, value: Value) -> Raw:
    """The raw value to write so that the point reads `value`: the inverse of drivers.base.sample.

    ValueError when there is none: an unknown label, or a number between two steps of the register.
    """
    register = register_of(point)
    if value is None:
        raise ValueError(f"{point.name}: there is no value to write")
    if register.type == "string":
        return str(value)
    if not isinstance(value, str) and not math.isfinite(value):
        raise ValueError(f"{point.name}: {value} is not a number that can be written")
    if isinstance(value, str):
        for code, label in point.labels.items():
            if label == value:
                return code
        raise ValueError(f"{point.name}: {value!r} is not one of {', '.join(point.labels.values()) or 'its numbers'}")
    if point.labels:
        return value
    raw = (value - point.offset) / point.scale if point.scale != 1.0 or point.offset else value
    if register.type in _FLOATS:
        return raw
    nearest = round(raw)
    if abs(raw - nearest) > 1e-6 * max(1.0, abs(raw)):
        raise ValueError(f"{point.name}: {value} cannot be set, the register goes in steps of {abs(point.scale):g}")
    return nearest


def shortest(value: float) -> float:
    """The double with the fewest decimals that is this float32: 230.2 for 43 66 33 33, not 230.1999969482422.

    `value` is a finite float32. With the unit of the last binary place u, decimals in steps of 10^-n < u always hit it
    (n from the table), and if fewer do, then n - 1 do: so two tries are exact (0.4 us instead of 2 us by formatting).
    Whole numbers stay as they are; -0.0 becomes 0.0.
    """
    mantissa, exponent = math.frexp(value)
    steps = _STEPS.get(exponent)
    if steps is None:  # beyond 1e-15 and 1e15: rare, so the plain way will do
        return next(float(text) for text in (f"{value:.{n}g}" for n in range(1, 10)) if _is_float32(text, value))
    coarse, fine, reach = steps
    if mantissa in (0.5, -0.5):
        reach /= (
            2  # the neighbour towards zero is half as far: safe, at the price of a digit too many for some of these
        )
    near = round(value * coarse) / coarse
    if -reach < near - value < reach:
        return near
    return round(value * fine) / fine


def _steps() -> dict[int, tuple[float, float, float]]:
    """Binary exponent -> (10^(n-1), 10^n, half a unit of the last place), where 10^n is exact in a double."""
    table = {}
    for exponent in range(-48, 51):
        unit = math.ldexp(1.0, exponent - 24)
        decimals = max(math.ceil(-math.log10(unit)), 1)
        table[exponent] = (10.0 ** (decimals - 1), 10.0**decimals, unit / 2)
    return table


_STEPS = _steps()


def _is_float32(text: str, value: float) -> bool:
    return bool(struct.unpack("f", struct.pack("f", float(text)))[0] == value)


def _number_reader(register: Register, at: int) -> Reader:
    swap = ORDERS[register.order]
    mixed = register.count > 1 and swap.words != swap.bytes
    form = struct.Struct((">" if mixed or not swap.bytes else "<") + _FORMATS[register.type])
    unpack = form.unpack_from
    if mixed:
        pick = _picker(register, at)
        number: Callable[[bytes], float] = lambda data: unpack(pick(data))[0]
    else:
        number = lambda data: unpack(data, at)[0]
    if register.type not in _FLOATS:
        return number
    tidy = _tidy(register.type)
    return lambda data: tidy(number(data))


def _tidy(kind: str) -> Callable[[float], Raw | None]:
    """What becomes of a number of this type once it is unpacked."""
    if kind not in _FLOATS:
        return _as_it_is
    fewest = shortest if kind == "f32" else float

    def tidy(value: float) -> float | None:
        if value - value != 0.0:  # NaN is for the sentinel rule; infinity is no value that could be passed on
            return value if value != value else None  # noqa: PLR0124 - NaN is the only number that differs from itself
        return fewest(value)

    return tidy


def _as_it_is(value: float) -> float:
    return value


def _field_reader(register: Register, at: int) -> Reader:
    first, many = register.field or (0, 16)
    high, low = (at + 1, at) if ORDERS[register.order].bytes else (at, at + 1)
    mask = (1 << many) - 1
    if register.type == "bit":
        return lambda data: (data[high] << 8 | data[low]) >> first & 1 == 1
    return lambda data: (data[high] << 8 | data[low]) >> first & mask


def _places(register: Register) -> list[int]:
    """For each byte, the most significant first, where it stands on the wire."""
    swap = ORDERS[register.order]
    words = range(register.count)
    return [
        2 * word + byte
        for word in (reversed(words) if swap.words else words)
        for byte in ((1, 0) if swap.bytes else (0, 1))
    ]


def _picker(register: Register, at: int) -> Callable[[bytes], bytes]:
    """Takes the register's bytes, the most significant first, out of a block in which it begins at byte `at`."""
    pick = itemgetter(*(at + place for place in _places(register)))
    return lambda data: bytes(pick(data))


def _reorder(register: Register, natural: bytes) -> bytes:
    """Bytes, the most significant first, as they go on the wire."""
    wire = bytearray(len(natural))
    for byte, place in zip(natural, _places(register), strict=True):
        wire[place] = byte
    return bytes(wire)


def _text(data: bytes) -> str | None:
    """Text up to the first NUL, without the spaces that pad it."""
    try:
        return data.partition(b"\0")[0].decode().rstrip()
    except UnicodeDecodeError:
        return None


def _text_bytes(register: Register, raw: Raw) -> bytes:
    size = 2 * register.count
    data = str(raw).encode()
    if len(data) > size:
        raise ValueError(f"{raw!r} takes {len(data)} bytes, the registers hold {size}")
    return data.ljust(size, b"\0")


def _bcd(data: bytes) -> int | None:
    digits = data.hex()
    return int(digits) if digits.isdecimal() else None


def _bcd_bytes(register: Register, raw: Raw) -> bytes:
    number, digits = _whole(raw), 4 * register.count
    if not 0 <= number < 10**digits:
        raise ValueError(f"{raw} does not fit {digits} decimal digits")
    return bytes.fromhex(f"{number:0{digits}d}")


def _number_bytes(register: Register, raw: Raw) -> bytes:
    if isinstance(raw, str):
        raise ValueError(f"{raw!r} is text, type {register.type} is a number")  # noqa: TRY004 - one error for bad values
    number = raw if register.type in _FLOATS else _whole(raw)
    try:
        return struct.pack(">" + _FORMATS[register.type], number)
    except (struct.error, OverflowError):
        raise ValueError(f"{raw} does not fit type {register.type}") from None


def _whole(raw: Raw) -> int:
    if isinstance(raw, str) or raw != int(raw):
        raise ValueError(f"{raw!r} is not a whole number")
    return int(raw)


def _bit(raw: Raw) -> int:
    if raw not in (0, 1):
        raise ValueError(f"{raw!r} is neither on (1) nor off (0)")
    return int(raw)
