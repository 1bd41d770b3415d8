"""What a Modbus device answers: request and registers in, reply out. Pure.

Spans are those of the Modbus Application Protocol Specification V1.1b3, section 6.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.simulator import about, records
from gateway.simulator.image import Image, Write
from gateway.simulator.pdu import ILLEGAL_ADDRESS, ILLEGAL_FUNCTION, ILLEGAL_VALUE, Answer, Memory, refusal, word

_READ_BITS = {1: "coil", 2: "discrete"}
_READ_REGISTERS = {3: "holding", 4: "input"}
_EMPTY = Memory()
_ON, _OFF = b"\xff\x00", b"\x00\x00"


def answer(pdu: bytes, image: Image, memory: Memory = _EMPTY) -> Answer:
    """Answer one request PDU from the registers and the memory of one device."""
    function = pdu[0]
    if function in _OF_REGISTERS:
        return _OF_REGISTERS[function](pdu, image)
    if function in _OF_MEMORY:
        return _OF_MEMORY[function](pdu, memory)
    return refusal(function, ILLEGAL_FUNCTION)


def _read(pdu: bytes, image: Image) -> Answer:
    function = pdu[0]
    registers = function in _READ_REGISTERS
    at, count = word(pdu, 1), word(pdu, 3)
    if len(pdu) != 5 or not 1 <= count <= (125 if registers else 2000):
        return refusal(function, ILLEGAL_VALUE)
    data = image.read(_READ_REGISTERS[function] if registers else _READ_BITS[function], at, count)
    if data is None:
        return refusal(function, ILLEGAL_ADDRESS)
    data = data if registers else _pack(data)
    return Answer(bytes((function, len(data))) + data)


def _write_one(pdu: bytes, image: Image) -> Answer:
    function, at, data = pdu[0], word(pdu, 1), pdu[3:]
    if len(data) != 2 or (function == 5 and data not in (_ON, _OFF)):
        return refusal(function, ILLEGAL_VALUE)
    write = Write("coil", at, bytes((data == _ON,))) if function == 5 else Write("holding", at, data)
    if not image.layout.may_write(write.table, at, 1):
        return refusal(function, ILLEGAL_ADDRESS)
    return Answer(pdu, write)


def _write_many(pdu: bytes, image: Image) -> Answer:
    function, bits = pdu[0], pdu[0] == 15
    at, count, data = word(pdu, 1), word(pdu, 3), pdu[6:]
    size = (count + 7) // 8 if bits else 2 * count
    if len(pdu) < 6 or not 1 <= count <= (1968 if bits else 123) or pdu[5] != size or len(data) != size:
        return refusal(function, ILLEGAL_VALUE)
    write = Write("coil", at, _unpack(data, count)) if bits else Write("holding", at, data)
    if not image.layout.may_write(write.table, at, count):
        return refusal(function, ILLEGAL_ADDRESS)
    return Answer(pdu[:5], write)


def _mask_write(pdu: bytes, image: Image) -> Answer:
    """Function 22: (current AND and_mask) OR (or_mask AND NOT and_mask)."""
    at, keep, give = word(pdu, 1), word(pdu, 3), word(pdu, 5)
    if len(pdu) != 7:
        return refusal(pdu[0], ILLEGAL_VALUE)
    held = image.read("holding", at, 1)
    if held is None or not image.layout.may_write("holding", at, 1):
        return refusal(pdu[0], ILLEGAL_ADDRESS)
    new = word(held, 0) & keep | give & ~keep
    return Answer(pdu, Write("holding", at, new.to_bytes(2, "big")))


def _read_write(pdu: bytes, image: Image) -> Answer:
    """Function 23: the write comes first."""
    at, count, write_at, many, data = word(pdu, 1), word(pdu, 3), word(pdu, 5), word(pdu, 7), pdu[10:]
    if len(pdu) < 10 or not (1 <= count <= 125 and 1 <= many <= 121 and pdu[9] == len(data) == 2 * many):
        return refusal(pdu[0], ILLEGAL_VALUE)
    if not image.layout.may_write("holding", write_at, many) or image.layout.area("holding", at, count) is None:
        return refusal(pdu[0], ILLEGAL_ADDRESS)
    write = Write("holding", write_at, data)
    read = image.written(write).read("holding", at, count) or b""
    return Answer(bytes((pdu[0], len(read))) + read, write)


_OF_REGISTERS: dict[int, Callable[[bytes, Image], Answer]] = {
    **dict.fromkeys((1, 2, 3, 4), _read),
    **dict.fromkeys((5, 6), _write_one),
    **dict.fromkeys((15, 16), _write_many),
    22: _mask_write,
    23: _read_write,
}
_OF_MEMORY: dict[int, Callable[[bytes, Memory], Answer]] = {
    7: about.exception_status,
    8: about.diagnostics,
    11: about.event_counter,
    12: about.event_log,
    17: about.server_id,
    20: records.read_records,
    21: records.write_records,
    24: records.read_queue,
    43: about.identification,
}


def _pack(bits: bytes) -> bytes:
    """One byte a bit -> eight bits a byte, the first in the lowest bit."""
    return bytes(sum(bit << i for i, bit in enumerate(bits[k : k + 8])) for k in range(0, len(bits), 8))


def _unpack(data: bytes, count: int) -> bytes:
    return bytes(data[i // 8] >> i % 8 & 1 for i in range(count))
