"""Modbus framing: wraps a PDU for the wire and finds the reply in what arrives. RTU, TCP and ASCII.

RTU over TCP is RTU. Nothing here waits for silence: a frame is known by unit, function, length and checksum. The echo
of the request, on lines that have one, is the link's to remove.

What a checksum can promise: CRC-16 finds any three flipped bits of a frame, and of four flipped bits all but one case
in 2^15. A flip that changes the length by which a frame is read (a reply becomes a refusal) leaves one case in 2^16.
The LRC of ASCII misses two flips that cancel in its sum; TCP leaves it to the network.
"""

from __future__ import annotations

from binascii import Error as HexError
from binascii import unhexlify
from collections.abc import Callable
from typing import NamedTuple

from drivers.base import Find, Frame, Reject
from drivers.modbus.reply import REFUSED, Reply, pdu_length


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

_EXCEPTION_SIZE = 5
_MAX_FRAME = 256


def rtu_wrap(unit: int, _transaction: int, pdu: bytes) -> bytes:
    frame = bytes((unit,)) + pdu
    return frame + crc16(frame).to_bytes(2, "little")


def rtu_unwrap(frame: bytes) -> bytes:
    return frame[1:-2]


def rtu_find(unit: int, _request: bytes, reply: Reply) -> Find:
    """Search for the reply, skipping noise and the frames of others."""
    head = bytes((unit,)) + reply.head
    total = 3 + reply.size

    def search(buffer: bytes | bytearray) -> Frame | Reject | None:
        return _rtu_search(bytes(buffer), head, reply)

    def find(buffer: bytes | bytearray) -> Frame | Reject | None:
        if buffer.startswith(head):
            if len(buffer) < total:
                return None
            if not crc16(buffer[:total]):
                return Frame(0, total)
        return search(buffer)

    return search if reply.measure else find


def _rtu_search(data: bytes, head: bytes, reply: Reply) -> Frame | Reject | None:
    """Look at every offset.

    A reply of ours that is not complete holds the search: its data may look like a refusal. A frame of others that is
    not complete does not, because two bytes of noise look like one, but it is kept to be recognised whole.
    """
    refusal = bytes((head[0], head[1] | REFUSED))
    keep: int | None = None
    at = others = 0
    while at < len(data):
        size: int | None = 0
        if head.startswith(data[at : at + len(head)]):
            length = reply.length(data[at + 1 : at + _MAX_FRAME])
            size = 3 + length if length else length
        elif refusal.startswith(data[at : at + 2]):
            size = _EXCEPTION_SIZE
        if size is None or (size and at + size > len(data)):
            keep = at if keep is None else keep
            break
        if size and not crc16(data[at : at + size]):
            return Frame(at, at + size)
        foreign = 0 if size else rtu_size(data, at)
        if at + foreign > len(data):
            keep = at if keep is None else keep
        elif foreign and not crc16(data[at : at + foreign]):
            others += foreign if keep is None else 0
            at += foreign
            continue
        at += 1
    drop = len(data) if keep is None else keep
    return Reject(drop, others) if drop else None


def rtu_size(data: bytes, at: int) -> int:
    """Length of the reply frame that may begin here, more than there is while it cannot be told; 0 when none does."""
    length = pdu_length(data[at + 1 : at + _MAX_FRAME])
    if length is None:
        return len(data) - at + 1
    return 3 + length if length else 0


# TCP ------------------------------------------------------------------------------------------------------------------

MBAP = 6  # transaction, protocol, length; the length counts from the unit on
MAX_LENGTH = 254


def tcp_wrap(unit: int, transaction: int, pdu: bytes) -> bytes:
    return b"%b\0\0%b%b%b" % (transaction.to_bytes(2, "big"), (1 + len(pdu)).to_bytes(2, "big"), bytes((unit,)), pdu)


def tcp_unwrap(frame: bytes) -> bytes:
    return frame[7:]


def tcp_find(unit: int, request: bytes, reply: Reply) -> Find:
    """Search for the reply of this transaction. Older and foreign ones are dropped whole, nonsense byte by byte."""
    ours = request[:4]
    refusal = ours + b"\0\3" + bytes((unit, reply.head[0] | REFUSED))
    good = ours + (1 + reply.size).to_bytes(2, "big") + bytes((unit,)) + reply.head
    known = (refusal,) if reply.measure else (good, refusal)

    def find(buffer: bytes | bytearray) -> Frame | Reject | None:
        at = others = 0
        while len(buffer) - at >= MBAP:
            length = buffer[at + 4] << 8 | buffer[at + 5]
            if buffer[at + 2] or buffer[at + 3] or not 2 <= length <= MAX_LENGTH:
                at += 1
                continue
            end = at + MBAP + length
            if end > len(buffer):
                break
            if buffer.startswith(known, at) or (reply.measure and tells_its_length(buffer, at, end)):
                return Frame(at, end)
            others += end - at
            at = end
        return Reject(at, others) if at else None

    def tells_its_length(buffer: bytes | bytearray, at: int, end: int) -> bool:
        return buffer.startswith(ours, at) and buffer[at + 6] == unit and reply.fits(bytes(buffer[at + 7 : end]))

    return find


# ASCII ----------------------------------------------------------------------------------------------------------------

_MAX_LINE = 513


def ascii_wrap(unit: int, _transaction: int, pdu: bytes) -> bytes:
    body = bytes((unit,)) + pdu
    return b":" + (body + bytes((lrc(body),))).hex().upper().encode() + b"\r\n"


def ascii_unwrap(frame: bytes) -> bytes:
    return unhexlify(frame[1:-2])[1:-1]


def ascii_body(line: bytes | bytearray) -> bytes:
    """Unit, PDU and LRC of what stands between colon and line end; b"" when it is damaged."""
    try:
        body = unhexlify(line)
    except HexError:
        return b""
    return b"" if len(body) < 3 or sum(body) & 0xFF else body


def ascii_find(unit: int, _request: bytes, reply: Reply) -> Find:
    """Search for the line that is the reply. A colon always begins a new frame; digits of either case are read."""
    refusal = bytes((reply.head[0] | REFUSED,))

    def answers(body: bytes) -> bool:
        pdu = body[1:-1]
        return body[0] == unit and (reply.fits(pdu) or (len(pdu) == 2 and pdu.startswith(refusal)))

    def find(buffer: bytes | bytearray) -> Frame | Reject | None:
        at = others = 0
        while (end := buffer.find(b"\r\n", at)) >= 0:
            start = buffer.rfind(b":", at, end)
            at = end + 2
            body = ascii_body(buffer[start + 1 : end]) if start >= 0 else b""
            if body and answers(body):
                return Frame(start, at)
            others += at - start if body else 0
        start = buffer.rfind(b":", at)
        drop = start if start >= 0 and len(buffer) - start <= _MAX_LINE else len(buffer)
        return Reject(drop, others) if drop else None

    return find


FRAMINGS = {
    "rtu": Framing(rtu_wrap, rtu_unwrap, rtu_find, lambda pdu: pdu + 3),
    "tcp": Framing(tcp_wrap, tcp_unwrap, tcp_find, lambda pdu: pdu + 7),
    "ascii": Framing(ascii_wrap, ascii_unwrap, ascii_find, lambda pdu: 2 * pdu + 7),
}
