"""Exchanges as a pcapng capture that Wireshark and tshark decode as Modbus, whatever the line was. Pure.

Each unit becomes a host 192.0.2.<unit> that the gateway, 198.51.100.1, talks to on TCP port 502: what they decode
without any setting. A frame of a serial line is given the header of Modbus TCP; what the line had instead (checksum,
timing, bytes that were no answer) stands in the comment of its packet.

Format: draft-ietf-opsawg-pcapng, sections 4.1 (section header), 4.2 (interface), 4.3 (enhanced packet).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from drivers.modbus.adu import FRAMINGS

RAW_IP = 101
"""LINKTYPE_RAW of tcpdump.org/linktypes: the packet begins with its IP header."""
MOST_HEARD = 512
"""Bytes that were no answer, as far as they are told in a comment."""

_PORT, _OWN_PORT = 502, 50_000
_GATEWAY = 256
"""Beyond the units."""
_PSH_ACK = 0x18
_COMMENT, _NAME, _APPLICATION = 1, 2, 4


class Capture:
    """Turns exchanges (messages of `trace`) into the blocks of one file, in order."""

    def __init__(self, bus: str, framing: str, application: str) -> None:
        self._framing = framing
        self._transaction = 0
        self._said: dict[tuple[int, int], int] = {}
        self.head = _block(
            0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1), [(_APPLICATION, application.encode()[:200])]
        ) + _block(1, struct.pack("<HHI", RAW_IP, 0, 0), [(_NAME, bus.encode()[:200])])
        """What the file begins with."""

    def packets(self, exchange: Mapping[str, Any]) -> bytes:
        """Return the blocks of one exchange: the request, and the reply where one came."""
        request, reply = bytes.fromhex(exchange["request"]), bytes.fromhex(exchange["reply"])
        at, took = exchange["ts"] / 1000, exchange["took_ms"] / 1000
        heard = exchange["heard"][: 3 * MOST_HEARD]
        notes = [f"{exchange['device']}: {exchange['asks']}"]
        if not reply:
            notes.append(exchange["error"] or "no answer is due")
        if heard:
            notes.append(f"heard, and no answer: {heard}")
        numbered = self._framing == "tcp"
        self._transaction = (self._transaction + 1) % 65536
        unit, pdu = self._parts(request)
        number = request[:2] if numbered else self._transaction.to_bytes(2, "big")
        blocks = self._packet(at, (_GATEWAY, unit), _mbap(number, unit, pdu), [*notes, *self._line(request)])
        if reply:
            unit, pdu = self._parts(reply)
            told = [f"{took * 1000:.1f} ms after the request began", *self._line(reply)]
            blocks += self._packet(at + took, (unit, _GATEWAY), _mbap(number, unit, pdu), told)
        return blocks

    def _parts(self, frame: bytes) -> tuple[int, bytes]:
        """Unit and PDU of a frame."""
        if self._framing == "ascii":
            return int(frame[1:3], 16), FRAMINGS["ascii"].unwrap(frame)
        return frame[6 if self._framing == "tcp" else 0], FRAMINGS[self._framing].unwrap(frame)

    def _line(self, frame: bytes) -> list[str]:
        """What the line had in the place of the header."""
        if self._framing == "tcp":
            return []
        check = frame[-2:].hex(" ") if self._framing == "rtu" else frame[-4:-2].decode("ascii", "replace")
        return [f"on the line: {self._framing.upper()}, {len(frame)} bytes, checksum {check}"]

    def _packet(self, at: float, way: tuple[int, int], payload: bytes, notes: Sequence[str]) -> bytes:
        """One enhanced packet block; `at` is wall time in seconds, `way` who sends to whom."""
        sent, answered = self._said.get(way, 1), self._said.get((way[1], way[0]), 1)
        self._said[way] = (sent + len(payload)) % 2**32
        data = _ip(way, _tcp(way, sent, answered, payload))
        high, low = divmod(round(at * 1e6), 2**32)
        head = struct.pack("<5I", 0, high, low, len(data), len(data))
        return _block(6, head + _padded(data), [(_COMMENT, "; ".join(notes).encode()[:4000])])


def _mbap(number: bytes, unit: int, pdu: bytes) -> bytes:
    return number + struct.pack(">HHB", 0, 1 + len(pdu), unit) + pdu


def _tcp(way: tuple[int, int], sent: int, answered: int, payload: bytes) -> bytes:
    ports = [_OWN_PORT if host == _GATEWAY else _PORT for host in way]
    head = struct.pack(">HHIIBBHHH", *ports, sent, answered, 5 << 4, _PSH_ACK, 8192, 0, 0)
    around = b"".join(map(_address, way)) + struct.pack(">HH", 6, len(head) + len(payload))
    return head[:16] + _checksum(around + head + payload) + head[18:] + payload


def _ip(way: tuple[int, int], payload: bytes) -> bytes:
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, 6, 0)
    head += b"".join(map(_address, way))
    return head[:10] + _checksum(head) + head[12:] + payload


def _address(host: int) -> bytes:
    """Of the nets that RFC 5737 keeps for documents: no real host is meant."""
    return bytes((198, 51, 100, 1)) if host == _GATEWAY else bytes((192, 0, 2, host))


def _checksum(data: bytes) -> bytes:
    """The Internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2, "big")


def _block(kind: int, body: bytes, options: Sequence[tuple[int, bytes]]) -> bytes:
    told = b"".join(struct.pack("<HH", code, len(value)) + _padded(value) for code, value in options)
    body += told + b"\0\0\0\0"  # opt_endofopt
    size = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", kind) + size + body + size


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
