"""MQTT packets, as far as the fault suite has to see and to write them: 3.1.1 and 5, no code of the product."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, PINGRESP, DISCONNECT = 1, 2, 3, 4, 8, 9, 12, 13, 14


def cut(buffer: bytearray) -> Iterator[bytes]:
    """Take whole packets, head and body, out of the buffer."""
    while len(buffer) >= 2:
        size = shift = 0
        for at in range(1, min(5, len(buffer))):
            size |= (buffer[at] & 127) << shift
            shift += 7
            if buffer[at] < 128:
                break
        else:
            return
        end = at + 1 + size
        if len(buffer) < end:
            return
        yield bytes(buffer[:end])
        del buffer[:end]


def parts(packet: bytes) -> tuple[int, bytes]:
    """(first byte, body) of a whole packet."""
    at = 1
    while packet[at] & 128:
        at += 1
    return packet[0], packet[at + 1 :]


def packet(first: int, body: bytes) -> bytes:
    """Put the head before a body."""
    length, rest = bytearray(), len(body)
    while True:
        rest, low = rest >> 7, rest & 127
        length.append(low | (128 if rest else 0))
        if not rest:
            return bytes([first]) + bytes(length) + body


def text(value: str) -> bytes:
    return struct.pack("!H", len(value.encode())) + value.encode()


def connect(identifier: str, *, clean: bool, keepalive: int = 0) -> bytes:
    """CONNECT of MQTT 3.1.1."""
    head = text("MQTT") + bytes([4, 2 if clean else 0]) + struct.pack("!H", keepalive)
    return packet(CONNECT << 4, head + text(identifier))


def subscribe(*filters: str) -> bytes:
    """SUBSCRIBE of MQTT 3.1.1, QoS 1."""
    return packet(0x82, b"\x00\x01" + b"".join(text(name) + b"\x01" for name in filters))


def publish(topic: str, payload: bytes, mid: int = 0) -> bytes:
    """PUBLISH of MQTT 3.1.1: QoS 1 with a packet id, else 0."""
    return packet(0x32 if mid else 0x30, text(topic) + (struct.pack("!H", mid) if mid else b"") + payload)


def published(first: int, body: bytes) -> tuple[str, bytes, bytes]:
    """(topic, packet id, payload) of a PUBLISH of MQTT 3.1.1."""
    at = 2 + int.from_bytes(body[:2], "big")
    end = at + (2 if first & 6 else 0)
    return body[2:at].decode(), body[at:end], body[end:]


async def whole(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read one packet: (first byte, body)."""
    first = (await reader.readexactly(1))[0]
    size = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        size |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return first, await reader.readexactly(size)
