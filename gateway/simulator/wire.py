"""Frames on the wire: Modbus RTU, ASCII and TCP, the simulator's own way, and the time they take. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

MAX_FRAME = 4096
"""Bytes of input that are kept while they make no frame."""

_SHORTEST_RTU = 4
_LONGEST_RTU = 264  # a write of 255 data bytes
_LONGEST_UNKNOWN = 16  # of a vendor's own function code
_PIECE = 8  # characters that a UART's FIFO hands over at once


Bytes = bytes | bytearray


class Request(NamedTuple):
    """A frame that was found: its unit and PDU, `tag` is what its reply must repeat, `frame` its bytes on the wire."""

    unit: int
    pdu: bytes
    tag: bytes
    frame: bytes


class Found(NamedTuple):
    """What stands at the front of the input: drop `used` bytes; `request` is None where they were noise."""

    request: Request | None
    used: int


class Framing(NamedTuple):
    """`find` looks for a request (None: wait for more); `wrap` makes the frame of a reply PDU.

    `sound` tells whether the checksum of these bytes, taken as one frame, is right.
    """

    find: Callable[[Bytes], Found | None]
    wrap: Callable[[Request, bytes], bytes]
    sound: Callable[[bytes], bool]


class NotModbus(Exception):
    """The peer on a TCP connection speaks something else: close it."""


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_CRC = _crc_table()


def crc16(data: bytes) -> bytes:
    """CRC-16 of Modbus RTU in the order of the wire, low byte first."""
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return bytes((crc & 0xFF, crc >> 8))


def lrc(data: bytes) -> int:
    """Longitudinal redundancy check of Modbus ASCII."""
    return -sum(data) & 0xFF


_FIXED = {1: 8, 2: 8, 3: 8, 4: 8, 5: 8, 6: 8, 7: 4, 8: 8, 11: 4, 12: 4, 17: 4, 22: 10, 24: 6, 43: 7}
_COUNTED = {15: 6, 16: 6, 20: 2, 21: 2, 23: 10}  # where the byte count stands


def _rtu_size(frame: bytes) -> int:
    """Bytes of the RTU request that begins here, as far as can be told; 0 where the function code tells nothing."""
    if len(frame) < 2:
        return 4
    function = frame[1]
    if function in _COUNTED:
        place = _COUNTED[function]
        return place + 3 + frame[place] if len(frame) > place else place + 3
    return _FIXED.get(function, 0)


def _rtu_at(buffer: Bytes, start: int) -> bytes | None:
    """The complete request with a good CRC that begins at `start`; None where there is none (yet)."""
    frame = bytes(buffer[start : start + _LONGEST_RTU])
    size = _rtu_size(frame)
    for end in (size,) if size else range(4, _LONGEST_UNKNOWN + 1):
        if end <= len(frame) and crc16(frame[: end - 2]) == frame[end - 2 : end]:
            return frame[:end]
    return None


def find_rtu(buffer: Bytes) -> Found | None:
    """By length and CRC, not by silence; what stands before a good frame is noise."""
    for start in range(len(buffer) - 3):
        frame = _rtu_at(buffer, start)
        if frame is not None:
            return Found(Request(frame[0], frame[1:-2], b"", frame), start + len(frame))
    return Found(None, len(buffer) - _LONGEST_RTU) if len(buffer) > _LONGEST_RTU else None


def wrap_rtu(request: Request, pdu: bytes) -> bytes:
    frame = bytes((request.unit,)) + pdu
    return frame + crc16(frame)


def sound_rtu(frame: bytes) -> bool:
    return len(frame) >= _SHORTEST_RTU and crc16(frame[:-2]) == frame[-2:]


def find_ascii(buffer: Bytes) -> Found | None:
    """From ':' to CR LF, with a good LRC."""
    start = buffer.find(b":")
    if start:
        return Found(None, len(buffer) if start < 0 else start) if buffer else None
    end = buffer.find(b"\r\n")
    if end < 0:
        return Found(None, 1) if len(buffer) > 513 else None
    body = _ascii_body(buffer[1:end])
    if len(body) < 2:
        return Found(None, end + 2)
    return Found(Request(body[0], body[1:], b"", bytes(buffer[: end + 2])), end + 2)


def _ascii_body(text: Bytes) -> bytes:
    """Hexadecimal digits with a good LRC -> unit and PDU; empty for anything else."""
    try:
        body = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        return b""
    return body[:-1] if body and lrc(body[:-1]) == body[-1] else b""


def wrap_ascii(request: Request, pdu: bytes) -> bytes:
    body = bytes((request.unit,)) + pdu
    return b":%s%02X\r\n" % (body.hex().upper().encode(), lrc(body))


def sound_ascii(frame: bytes) -> bool:
    return frame[:1] == b":" and frame[-2:] == b"\r\n" and bool(_ascii_body(frame[1:-2]))


def find_tcp(buffer: Bytes) -> Found | None:
    """MBAP header and PDU. NotModbus when the header is none."""
    if len(buffer) < 7:
        return None
    length = int.from_bytes(buffer[4:6], "big")
    if buffer[2:4] != b"\0\0" or not 2 <= length <= 254:
        raise NotModbus
    if len(buffer) < 6 + length:
        return None
    frame = bytes(buffer[: 6 + length])
    return Found(Request(frame[6], frame[7:], frame[:2], frame), len(frame))


def wrap_tcp(request: Request, pdu: bytes) -> bytes:
    return request.tag + b"\0\0" + (len(pdu) + 1).to_bytes(2, "big") + bytes((request.unit,)) + pdu


FRAMINGS = {
    "rtu": Framing(find_rtu, wrap_rtu, sound_rtu),
    "ascii": Framing(find_ascii, wrap_ascii, sound_ascii),
    "tcp": Framing(find_tcp, wrap_tcp, lambda _frame: True),
}


def requests(framing: Framing, buffer: bytearray) -> Iterator[Request]:
    """Take every complete request out of what has arrived; what is no frame is dropped, the rest stays."""
    while (found := framing.find(buffer)) is not None:
        del buffer[: found.used]
        if found.request is not None:
            yield found.request
    del buffer[: max(0, len(buffer) - MAX_FRAME)]


class Delivery(NamedTuple):
    """At `due` (monotonic seconds) the receiver can read these bytes."""

    due: float
    data: bytes


def deliveries(begin: float, data: bytes, character: float, piece: int = 0, gap: float = 0.0) -> list[Delivery]:
    """When bytes whose first bit stands on the line at `begin` arrive, in the pieces that a UART's FIFO hands over.

    `character` is the time of one character in seconds, 0 where there is no line. `piece` asks for pieces of another
    size, with `gap` seconds of silence between them.
    """
    if not piece and not character:
        return [Delivery(begin, data)] if data else []
    step = piece or _PIECE
    ends = range(step, len(data) + step, step)
    return [
        Delivery(begin + min(end, len(data)) * character + k * gap, data[end - step : end])
        for k, end in enumerate(ends)
    ]
