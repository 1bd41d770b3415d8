"""What a Modbus device answers: request and registers in, reply out. Pure.

Numbers are those of the Modbus Application Protocol Specification V1.1b3, section 6.
"""

from __future__ import annotations

from typing import NamedTuple

from gateway.simulator.image import Image, Write

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE, NO_TARGET = 1, 2, 3, 0x0B

_READ_BITS = {1: "coil", 2: "discrete"}
_READ_REGISTERS = {3: "holding", 4: "input"}
_ON, _OFF = b"\xff\x00", b"\x00\x00"


class Answer(NamedTuple):
    """The reply PDU, and what the request changes."""

    pdu: bytes
    write: Write | None = None


def answer(pdu: bytes, image: Image) -> Answer:
    """Answer one request PDU from the registers of one device."""
    function = pdu[0]
    if function in _READ_BITS or function in _READ_REGISTERS:
        return _read(pdu, image)
    if function in (5, 6):
        return _write_one(pdu, image)
    if function in (15, 16):
        return _write_many(pdu, image)
    return refusal(function, ILLEGAL_FUNCTION)


def refusal(function: int, code: int) -> Answer:
    """An exception reply."""
    return Answer(bytes((function & 0x7F | 0x80, code)))


def _read(pdu: bytes, image: Image) -> Answer:
    function = pdu[0]
    registers = function in _READ_REGISTERS
    at, count = int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
    if len(pdu) != 5 or not 1 <= count <= (125 if registers else 2000):
        return refusal(function, ILLEGAL_VALUE)
    data = image.read(_READ_REGISTERS[function] if registers else _READ_BITS[function], at, count)
    if data is None:
        return refusal(function, ILLEGAL_ADDRESS)
    data = data if registers else _pack(data)
    return Answer(bytes((function, len(data))) + data)


def _write_one(pdu: bytes, image: Image) -> Answer:
    function, at, data = pdu[0], int.from_bytes(pdu[1:3], "big"), pdu[3:]
    if len(data) != 2 or (function == 5 and data not in (_ON, _OFF)):
        return refusal(function, ILLEGAL_VALUE)
    write = Write("coil", at, bytes((data == _ON,))) if function == 5 else Write("holding", at, data)
    if not image.layout.may_write(write.table, at, 1):
        return refusal(function, ILLEGAL_ADDRESS)
    return Answer(pdu, write)


def _write_many(pdu: bytes, image: Image) -> Answer:
    function, bits = pdu[0], pdu[0] == 15
    at, count, data = int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big"), pdu[6:]
    size = (count + 7) // 8 if bits else 2 * count
    if len(pdu) < 6 or not 1 <= count <= (1968 if bits else 123) or pdu[5] != size or len(data) != size:
        return refusal(function, ILLEGAL_VALUE)
    write = Write("coil", at, _unpack(data, count)) if bits else Write("holding", at, data)
    if not image.layout.may_write(write.table, at, count):
        return refusal(function, ILLEGAL_ADDRESS)
    return Answer(pdu[:5], write)


def _pack(bits: bytes) -> bytes:
    """One byte a bit -> eight bits a byte, the first in the lowest bit."""
    return bytes(sum(bit << i for i, bit in enumerate(bits[k : k + 8])) for k in range(0, len(bits), 8))


def _unpack(data: bytes, count: int) -> bytes:
    return bytes(data[i // 8] >> i % 8 & 1 for i in range(count))
