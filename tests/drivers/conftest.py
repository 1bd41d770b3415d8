"""What the driver tests share: an independent framing, a script player and a device made of a dictionary."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from drivers.base import BusError, Conversation, Exchange, Find, Frame, Point, Reject, Sample
from drivers.modbus.register import Register


def bitwise_rtu(unit: int, pdu: str | bytes) -> bytes:
    """An RTU frame, its CRC computed bit by bit as the specification describes it."""
    frame = bytes((unit,)) + (bytes.fromhex(pdu) if isinstance(pdu, str) else pdu)
    crc = 0xFFFF
    for byte in frame:
        crc ^= byte
        for _ in range(8):
            low = crc & 1
            crc >>= 1
            if low:
                crc ^= 0xA001
    return frame + bytes((crc & 0xFF, crc >> 8))


def receive(find: Find, wire: bytes) -> tuple[bytes | None, int]:
    """Feed bytes one by one as a link does: (the frame or None, how many bytes were thrown away)."""
    buffer, dropped = bytearray(), 0
    for byte in wire:
        buffer.append(byte)
        while isinstance(found := find(buffer), Reject):
            assert 0 < found.size <= len(buffer)
            dropped += found.size
            del buffer[: found.size]
        if isinstance(found, Frame):
            return bytes(buffer[found.start : found.end]), dropped + found.start
    return None, dropped


Step = tuple[bytes, bytes | BusError]


def converse(conversation: Conversation, script: Sequence[Step]) -> list[Sample]:
    """Play (expected request, reply on the wire or error) and return the samples; every step must be used."""
    answer: bytes | BusError | None = None
    for request, reply in script:
        step = _next(conversation, answer)
        assert isinstance(step, Exchange), f"ended before {request.hex(' ')}: {step}"
        assert step.request == request, f"{step.request.hex(' ')} instead of {request.hex(' ')}"
        answer = reply
        if isinstance(reply, bytes) and step.find is not None:
            answer, _ = receive(step.find, reply)
            assert answer is not None, f"{reply.hex(' ')} does not answer {step.label}"
            assert len(answer) <= step.reply_size or len(answer) == 5
    end = _next(conversation, answer)
    assert isinstance(end, list), f"goes on with {end}"
    return end


def _next(conversation: Conversation, answer: bytes | BusError | None) -> object:
    try:
        if answer is None:
            return next(conversation)
        return conversation.throw(answer) if isinstance(answer, BusError) else conversation.send(answer)
    except StopIteration as end:
        return end.value


class DictionaryDevice:
    """Answers requests like a device that has only the registers in `words` and the bits in `bits`."""

    def __init__(self, unit: int = 1, words: dict[int, int] | None = None, bits: dict[int, bool] | None = None) -> None:
        self.unit = unit
        self.words = words or {}
        self.bits = bits or {}
        self.most = 125
        self.absent = 2
        self.unknown: set[int] = set()
        self.asked: list[tuple[int, int, int]] = []

    def answer(self, request: bytes) -> bytes:
        """Request frame -> reply frame (RTU)."""
        assert request == bitwise_rtu(self.unit, request[1:-2])
        return bitwise_rtu(self.unit, self.execute(request[1:-2]))

    def execute(self, pdu: bytes) -> bytes:
        function, first, count = pdu[0], int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
        self.asked.append((function, first, count))
        if function in self.unknown:
            return bytes((function | 0x80, 1))
        memory = self.bits if function in (1, 2, 5, 15) else self.words
        if function in (5, 6):
            count = 1
        if any(at not in memory for at in range(first, first + count)):
            return bytes((function | 0x80, self.absent))
        if count > self.most:
            return bytes((function | 0x80, 3))
        return self._done(pdu, function, first, count)

    def _done(self, pdu: bytes, function: int, first: int, count: int) -> bytes:
        if function in (1, 2):
            packed = sum(self.bits[first + n] << n for n in range(count)).to_bytes((count + 7) // 8, "little")
            return bytes((function, len(packed))) + packed
        if function in (3, 4):
            return bytes((function, 2 * count)) + b"".join(
                self.words[at].to_bytes(2, "big") for at in range(first, first + count)
            )
        if function == 5:
            self.bits[first] = pdu[3] == 0xFF
        elif function == 6:
            self.words[first] = int.from_bytes(pdu[3:5], "big")
        elif function == 15:
            self.bits.update({first + n: bool(pdu[6 + n // 8] >> n % 8 & 1) for n in range(count)})
        else:
            self.words.update({first + n: int.from_bytes(pdu[6 + 2 * n : 8 + 2 * n], "big") for n in range(count)})
        return pdu[:5]

    def talk(self, conversation: Conversation) -> list[Sample]:
        """Answer everything until the conversation ends."""
        answer: bytes | None = None
        while isinstance(step := _next(conversation, answer), Exchange):
            answer, dropped = receive(step.find, self.answer(step.request))
            assert answer is not None
            assert dropped == 0
        return step


@pytest.fixture(name="rtu", scope="session")
def _rtu() -> Callable[[int, str | bytes], bytes]:
    return bitwise_rtu


@pytest.fixture(name="receive", scope="session")
def _receive() -> Callable[[Find, bytes], tuple[bytes | None, int]]:
    return receive


@pytest.fixture(name="converse", scope="session")
def _converse() -> Callable[[Conversation, Sequence[Step]], list[Sample]]:
    return converse


@pytest.fixture(scope="session")
def device() -> type[DictionaryDevice]:
    return DictionaryDevice


@pytest.fixture(scope="session")
def point() -> Callable[..., Point]:
    """point(table, at, type, ..., and what a Point takes)."""

    def make(table: str, at: int, type_: str = "", *, name: str = "", order: str = "", bit=None, length=None, **facts):
        return Point(name or f"{table}_{at}", Register(table, at, type_, order, bit, length), **facts)

    return make


@pytest.fixture(scope="session")
def words(point) -> Callable[..., list[Point]]:
    """words(3, 4): holding registers 3 and 4 as points."""
    return lambda *places, **facts: [point("holding", at, **facts) for at in places]
