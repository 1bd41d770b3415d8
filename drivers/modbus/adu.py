"""Modbus framing: wraps a PDU for the wire and finds the reply in what arrives. RTU, TCP and ASCII.

RTU over TCP is RTU. Nothing here waits for silence: a frame is known by unit, function, length and checksum.

A line that echoes what is sent gives the request back before the reply. The echo is skipped, with one exception: a
device answers FC 5 and FC 6 with the very bytes of the request, so content cannot tell echo from reply and the first
such frame is taken. Where that matters, the link has to drop its own echo, or the write is verified by reading.
"""

from __future__ import annotations

from binascii import Error as HexError
from binascii import unhexlify
from collections.abc import Callable
from typing import NamedTuple

from drivers.base import Find, Frame, Reject

REFUSED = 0x80
"""Set in the function code of an exception reply."""


class Reply(NamedTuple):
    """A good reply's PDU: it begins with `head` (function code first) and is `size` bytes long."""

    head: bytes
    size: int


class Framing(NamedTuple):
    """One way to put a PDU on the wire."""

    wrap: Callable[[int, int, bytes], bytes]
    """(unit, transaction, PDU) -> frame."""
    unwrap: Callable[[bytes], bytes]
    """Frame -> PDU."""
    find: Callable[[int, bytes, Reply], Find]
    """(unit, request frame, what a good reply is) -> the search for it, or for the refusal."""
    size: Callable[[int], int]
    """Bytes of a PDU -> bytes of its frame."""


def _table() -> tuple[int, ...]:
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1  # noqa: PLW2901 - the byte is the register's start value
        table.append(crc)
    return tuple(table)


_CRC = _table()


def crc16(data: bytes | bytearray) -> int:
    """CRC-16 of an RTU frame, sent low byte first; 0 over a frame with its CRC. Modbus over Serial Line 1.02, 6.2.2."""
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc


def lrc(data: bytes | bytearray) -> int:
    """LRC of the ASCII frame: the two's complement of the sum. Modbus over Serial Line 1.02, 6.2.1."""
    return -sum(data) & 0xFF


# RTU ------------------------------------------------------------------------------------------------------------------

_REPLY_SIZES = {5: 8, 6: 8, 15: 8, 16: 8}
_EXCEPTION_SIZE = 5


def rtu_wrap(unit: int, _transaction: int, pdu: bytes) -> bytes:
    frame = bytes((unit,)) + pdu
    return frame + crc16(frame).to_bytes(2, "little")


def rtu_unwrap(frame: bytes) -> bytes:
    return frame[1:-2]


def rtu_find(unit: int, request: bytes, reply: Reply) -> Find:
    """Search for the reply, skipping noise, the echo of the request and the frames of others."""
    head = bytes((unit,)) + reply.head
    total = 3 + reply.size
    echoes = () if request == rtu_wrap(unit, 0, reply.head) else (request,)

    def find(buffer: bytes | bytearray) -> Frame | Reject | None:
        if buffer.startswith(head):
            if len(buffer) < total:
                return None
            if not crc16(buffer[:total]) and not buffer.startswith(echoes):
                return Frame(0, total)
        return _rtu_search(bytes(buffer), head, total, echoes)

    return find


def _rtu_search(data: bytes, head: bytes, total: int, echoes: tuple[bytes, ...]) -> Frame | Reject | None:
    """Look at every offset.

    A reply of ours that is not complete holds the search: its data may look like a refusal. A frame of others that is
    not complete does not, because two bytes of noise look like one, but it is kept to be recognised whole.
    """
    refusal = bytes((head[0], head[1] | REFUSED))
    keep: int | None = None
    at = 0
    while at < len(data):
        if data.startswith(echoes, at):
            at += len(echoes[0])
            continue
        if head.startswith(data[at : at + len(head)]):
            size = total
        elif refusal.startswith(data[at : at + 2]):
            size = _EXCEPTION_SIZE
        else:
            size = 0
        if size and at + size > len(data):
            keep = at if keep is None else keep
            break
        if size and not crc16(data[at : at + size]):
            return Frame(at, at + size)
        foreign = 0 if size else _foreign_size(data, at)
        if at + foreign > len(data):
            keep = at if keep is None else keep
        elif foreign and not crc16(data[at : at + foreign]):
            at += foreign
            continue
        at += 1
    drop = len(data) if keep is None else keep
    return Reject(drop) if drop else None


def _foreign_size(data: bytes, at: int) -> int:
    """Length of the reply that may begin here, by its function code; 0 when none does."""
    if len(data) - at < 3:
        return _EXCEPTION_SIZE
    function = data[at + 1]
    if 1 <= function <= 4:
        return 5 + data[at + 2]
    return _EXCEPTION_SIZE if function & REFUSED else _REPLY_SIZES.get(function, 0)


# TCP ------------------------------------------------------------------------------------------------------------------

_MBAP = 6  # transaction, protocol, length; the length counts from the unit on
_MAX_LENGTH = 254


def tcp_wrap(unit: int, transaction: int, pdu: bytes) -> bytes:
    return b"%b\0\0%b%b%b" % (transaction.to_bytes(2, "big"), (1 + len(pdu)).to_bytes(2, "big"), bytes((unit,)), pdu)


def tcp_unwrap(frame: bytes) -> bytes:
    return frame[7:]


def tcp_find(unit: int, request: bytes, reply: Reply) -> Find:
    """Search for the reply of this transaction. Older and foreign ones are dropped whole, nonsense byte by byte."""
    ours = request[:4]
    good = ours + (1 + reply.size).to_bytes(2, "big") + bytes((unit,)) + reply.head
    refusal = ours + b"\0\3" + bytes((unit, reply.head[0] | REFUSED))

    def find(buffer: bytes | bytearray) -> Frame | Reject | None:
        at = 0
        while len(buffer) - at >= _MBAP:
            length = buffer[at + 4] << 8 | buffer[at + 5]
            if buffer[at + 2] or buffer[at + 3] or not 2 <= length <= _MAX_LENGTH:
                at += 1
                continue
            end = at + _MBAP + length
            if end > len(buffer):
                break
            if buffer.startswith((good, refusal), at):
                return Frame(at, end)
            at = end
        return Reject(at) if at else None

    return find


# ASCII ----------------------------------------------------------------------------------------------------------------

_MAX_LINE = 513


def ascii_wrap(unit: int, _transaction: int, pdu: bytes) -> bytes:
    body = bytes((unit,)) + pdu
    return b":" + (body + bytes((lrc(body),))).hex().upper().encode() + b"\r\n"


def ascii_unwrap(frame: bytes) -> bytes:
    return unhexlify(frame[1:-2])[1:-1]


def ascii_find(unit: int, request: bytes, reply: Reply) -> Find:
    """Search for the line that is the reply. A colon always begins a new frame; digits of either case are read."""
    head = bytes((unit,)) + reply.head
    refusal = bytes((unit, reply.head[0] | REFUSED))
    mirrored = request == ascii_wrap(unit, 0, reply.head)

    def answers(line: bytes) -> bool:
        try:
            body = unhexlify(line)
        except HexError:
            return False
        ours = (body.startswith(head) and len(body) == reply.size + 2) or (body.startswith(refusal) and len(body) == 4)
        return ours and not sum(body) & 0xFF

    def find(buffer: bytes | bytearray) -> Frame | Reject | None:
        at = 0
        while (end := buffer.find(b"\r\n", at)) >= 0:
            start = buffer.rfind(b":", at, end)
            at = end + 2
            echo = not mirrored and buffer[start:at] == request
            if start >= 0 and not echo and answers(bytes(buffer[start + 1 : end])):
                return Frame(start, at)
        start = buffer.rfind(b":", at)
        drop = start if start >= 0 and len(buffer) - start <= _MAX_LINE else len(buffer)
        return Reject(drop) if drop else None

    return find


FRAMINGS = {
    "rtu": Framing(rtu_wrap, rtu_unwrap, rtu_find, lambda pdu: pdu + 3),
    "tcp": Framing(tcp_wrap, tcp_unwrap, tcp_find, lambda pdu: pdu + 7),
    "ascii": Framing(ascii_wrap, ascii_unwrap, ascii_find, lambda pdu: 2 * pdu + 7),
}
