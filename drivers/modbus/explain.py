"""What stands among bytes that were no answer: names for what the link skipped, or could not use. Pure."""

from __future__ import annotations

from collections.abc import Callable

from drivers.base import CLIPPED, CRC, NOISE, WRONG_FUNCTION, WRONG_LENGTH, WRONG_UNIT, Exchange, Finding
from drivers.modbus.adu import MAX_LENGTH, MBAP, ascii_body, crc16, rtu_size
from drivers.modbus.reply import REFUSED, Reply, reply_to
from drivers.modbus.unit import Unit

_LOOK = 600
"""Bytes that are looked at: two frames and some. Of a babbling line the beginning tells enough."""
_CLIP = 3
"""Bytes at most that a transmitter switched on too late cuts off."""

Piece = tuple[list[Finding], int]
"""What stands at one place, and how many bytes it takes; 0 bytes: nothing that is known."""


def explain(unit: Unit, exchange: Exchange, heard: bytes) -> list[Finding]:
    """Name what stands in `heard`, in its order; a run of bytes that belong to no frame is one NOISE.

    RTU and ASCII find every kind, TCP has no checksum of its own and loses no bytes: foreign answers and noise only.
    An older transaction over TCP is no finding, nor is a whole good reply.
    """
    reply = reply_to(unit.unwrap(exchange.request))
    look = _LOOKS[unit.framing]
    data = heard[:_LOOK]
    findings: list[Finding] = []
    at = run = 0
    while at < len(data):
        found, size = look(data, at, unit.number, reply, exchange.request)
        if size and at > run:
            findings.append(Finding(NOISE))
        findings += found
        at += size or 1
        run = at if size else run
    return [*findings, Finding(NOISE)] if at > run else findings


def was_the_reply(unit: Unit, exchange: Exchange, heard: bytes) -> bool:
    """Whether `heard` holds the reply, though damaged, so that it is not to be expected any more.

    Its length alone proves nothing: a refusal of another unit, late and with noise before it, may be as long.
    """
    return any(finding.kind in (CRC, CLIPPED) for finding in explain(unit, exchange, heard))


def _refusal(reply: Reply) -> Reply:
    """The other good answer to the same request."""
    return Reply(bytes((reply.head[0] | REFUSED,)), 2)


def _name(unit: int, reply: Reply, who: int, pdu: bytes) -> list[Finding]:
    """What a good frame is to one who waits for `reply` of `unit`."""
    if who != unit:
        return [Finding(WRONG_UNIT, who)]
    if pdu[0] & ~REFUSED != reply.head[0]:
        return [Finding(WRONG_FUNCTION, who)]
    if reply.fits(pdu) or pdu[0] & REFUSED:
        return []
    # A write that is confirmed with another address or value answers another request, too.
    return [Finding(WRONG_FUNCTION if len(pdu) == reply.size else WRONG_LENGTH, who)]


# RTU ------------------------------------------------------------------------------------------------------------------


def _rtu(data: bytes, at: int, unit: int, reply: Reply, _request: bytes) -> Piece:
    for size in (rtu_size(data, at), _request_size(data, at)):
        if size and at + size <= len(data) and not crc16(data[at : at + size]):
            return _name(unit, reply, data[at], data[at + 1 : at + size - 2]), size
    for good in (reply, _refusal(reply)):
        if size := _damaged(data, at, unit, good):
            return [Finding(CRC)], size
        if size := _clipped(data, at, unit, good):
            return [Finding(CLIPPED, unit)], size
    return [], 0


def _request_size(data: bytes, at: int) -> int:
    """Length of the request of another master that may begin here; 0 when none does."""
    function = data[at + 1] if at + 1 < len(data) else 0
    if function in (15, 16):
        return 9 + data[at + 6] if at + 6 < len(data) else 0
    return 8 if 1 <= function <= 6 else 0


def _damaged(data: bytes, at: int, unit: int, reply: Reply) -> int:
    """Length of our reply when all of it is here but its checksum, which does not fit; else 0."""
    if not data.startswith(bytes((unit,)) + reply.head, at):
        return 0
    size = 3 + (reply.length(data[at + 1 :]) or 0)
    return size if 3 < size <= len(data) - at else 0


def _clipped(data: bytes, at: int, unit: int, reply: Reply) -> int:
    """How much is here of our reply when its first bytes, put back, make it whole; else 0."""
    head = bytes((unit,)) + reply.head
    for missing in range(1, min(_CLIP, len(head)) + 1):
        if data.startswith(head[missing:], at):
            whole = head[:missing] + data[at:]
            size = 3 + (reply.length(whole[1:]) or 0)
            if 3 < size <= len(whole) and not crc16(whole[:size]):
                return size - missing
    return 0


# ASCII ----------------------------------------------------------------------------------------------------------------


def _ascii(data: bytes, at: int, unit: int, reply: Reply, _request: bytes) -> Piece:
    end = data.find(b"\r\n", at)
    if end < 0 or data.find(b":", at + 1, end) >= 0:
        return [], 0
    line, size = data[at:end], end + 2 - at
    body = ascii_body(line[1:]) if line.startswith(b":") else b""
    if body:
        return _name(unit, reply, body[0], body[1:-1]), size
    for good in (reply, _refusal(reply)):
        start = b":" + (bytes((unit,)) + good.head).hex().upper().encode()
        if line.upper().startswith(start) and (good.measure or len(line) == 2 * good.size + 5):
            return [Finding(CRC)], size
        for missing in range(1, _CLIP + 1):
            body = ascii_body((start[:missing] + line)[1:])
            if body and body[0] == unit and good.fits(body[1:-1]):
                return [Finding(CLIPPED, unit)], size
    return [], 0


# TCP ------------------------------------------------------------------------------------------------------------------


def _tcp(data: bytes, at: int, unit: int, reply: Reply, request: bytes) -> Piece:
    length = int.from_bytes(data[at + 4 : at + MBAP], "big")
    end = at + MBAP + length
    if data[at + 2 : at + 4] != b"\0\0" or not 2 <= length <= MAX_LENGTH or end > len(data):
        return [], 0
    is_ours = data.startswith(request[:2], at)
    return _name(unit, reply, data[at + 6], data[at + 7 : end]) if is_ours else [], end - at


_LOOKS: dict[str, Callable[[bytes, int, int, Reply, bytes], Piece]] = {"rtu": _rtu, "tcp": _tcp, "ascii": _ascii}
