"""Where a value stands in a Modbus device: table, address, type and byte order. Pure facts, no codec."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from drivers.base import Point

READ_FUNCTION = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
"""Table -> function code that reads it, in the order in which tables are polled."""

BIT_TABLES = frozenset({"coil", "discrete"})

WORDS = {
    **dict.fromkeys(("bit", "bits", "u8hi", "u8lo", "u16", "s16"), 1),
    **dict.fromkeys(("u32", "s32", "f32"), 2),
    **dict.fromkeys(("u64", "s64", "f64"), 4),
}
"""Type -> registers. The length of `string` and `bcd` is said by the profile."""

MAX_WORDS = 125
ADDRESSES = 65536


class Swap(NamedTuple):
    """How the bytes on the wire differ from "most significant first"."""

    words: bool
    bytes: bool


ORDERS = {
    "": Swap(words=False, bytes=False),
    "AB": Swap(words=False, bytes=False),
    "BA": Swap(words=False, bytes=True),
    "ABCD": Swap(words=False, bytes=False),
    "CDAB": Swap(words=True, bytes=False),
    "BADC": Swap(words=False, bytes=True),
    "DCBA": Swap(words=True, bytes=True),
    "ABCDEFGH": Swap(words=False, bytes=False),
    "GHEFCDAB": Swap(words=True, bytes=False),
    "BADCFEHG": Swap(words=False, bytes=True),
    "HGFEDCBA": Swap(words=True, bytes=True),
}
"""Names by the bytes on the wire, A the most significant: 230.2 as f32 is 43 66 33 33 in ABCD, 33 33 43 66 in CDAB."""


@dataclass(frozen=True, slots=True)
class Register:
    """The address of one value, used as `Point.where`. ValueError with a sentence when it makes no sense.

    `at` is the 0-based protocol address. `type` left out means `bit` in the bit tables and `u16` elsewhere. `bit` is
    the number of a bit (type `bit`) or (first, how many) (type `bits`), 0 the least significant of the register.
    `length` is the number of registers of a `string` or `bcd`.
    """

    table: str
    at: int
    type: str = ""
    order: str = ""
    bit: int | tuple[int, int] | None = None
    length: int | None = None

    def __post_init__(self) -> None:
        if self.table not in READ_FUNCTION:
            raise ValueError(f"table {self.table!r} is unknown: use {', '.join(READ_FUNCTION)}")
        if not self.type:
            object.__setattr__(self, "type", "bit" if self.table in BIT_TABLES else "u16")
        if self.table in BIT_TABLES:
            self._check_bit_table()
        else:
            self._check_type()
            self._check_order()
        if self.at < 0 or self.end > ADDRESSES:
            raise ValueError(
                f"address {self.at} ({self.count} wide) is outside 0..{ADDRESSES - 1}; addresses are 0-based"
            )

    @property
    def count(self) -> int:
        """Registers that the value occupies; 1 for a bit of a bit table."""
        return self.length or WORDS[self.type]

    @property
    def end(self) -> int:
        """The first address behind the value."""
        return self.at + self.count

    @property
    def field(self) -> tuple[int, int] | None:
        """(first bit, how many) of a value that is a part of one register, else None."""
        if self.type == "u8hi":
            return 8, 8
        if self.type == "u8lo":
            return 0, 8
        if isinstance(self.bit, int):
            return self.bit, 1
        return self.bit

    def _check_bit_table(self) -> None:
        if self.type != "bit" or self.order or self.bit is not None or self.length is not None:
            raise ValueError(f"a {self.table} is one bit: leave out type, order, bit and length")

    def _check_type(self) -> None:
        if self.type in ("string", "bcd"):
            most = MAX_WORDS if self.type == "string" else 8
            if self.length is None or not 1 <= self.length <= most:
                raise ValueError(f"type {self.type} needs length = 1..{most}, the number of registers")
        elif self.type not in WORDS:
            raise ValueError(f"type {self.type!r} is unknown: use {', '.join(WORDS)}, string or bcd")
        elif self.length is not None:
            raise ValueError(f"type {self.type} has its own length: leave out length")
        if self.type == "bit" and not (isinstance(self.bit, int) and 0 <= self.bit <= 15):
            raise ValueError("type bit of a register needs bit = 0..15, 0 the least significant")
        if self.type == "bits" and not _is_slice(self.bit):
            raise ValueError("type bits needs bit = [first, how many] within the 16 bits of a register")
        if self.type not in ("bit", "bits") and self.bit is not None:
            raise ValueError(f"type {self.type} takes no bit: use type bit or bits")

    def _check_order(self) -> None:
        sizes = {2} if self.type == "string" or self.count == 1 else {4, 2 * self.count}
        if self.type == "bcd":
            sizes |= {2, 4}
        names = [name for name in ORDERS if len(name) in sizes]
        if self.order and self.order not in names:
            raise ValueError(f"order {self.order!r} does not fit type {self.type}: use {', '.join(names)}")


def _is_slice(bit: object) -> bool:
    """Whether this is (first, how many) within 16 bits."""
    if not (isinstance(bit, tuple) and len(bit) == 2):
        return False
    first, many = bit
    return isinstance(first, int) and isinstance(many, int) and first >= 0 and many >= 1 and first + many <= 16


def register_of(point: Point) -> Register:
    """The point's Modbus address; TypeError when it was made for another driver."""
    if not isinstance(point.where, Register):
        raise TypeError(f"point {point.name} has no Modbus address")
    return point.where
