"""What a device says about itself and its line: functions 7, 8, 11, 12, 17 and 43/14. Pure.

Spans are those of the Modbus Application Protocol Specification V1.1b3, sections 6.7 to 6.10, 6.13 and 6.21.
"""

from __future__ import annotations

from gateway.simulator.pdu import (
    ACKNOWLEDGE,
    BUSY,
    DEVICE_FAILURE,
    ILLEGAL_ADDRESS,
    ILLEGAL_FUNCTION,
    ILLEGAL_VALUE,
    NAK,
    Answer,
    Memory,
    Tally,
    refusal,
    word,
)

VENDOR, PRODUCT, REVISION, URL, PRODUCT_NAME, MODEL, APPLICATION = range(7)
"""Object ids of the identification: 0..2 basic, 3..6 regular, from 0x80 on the device's own."""

_LOG = 64
_LONGEST_PDU = 253
_STREAMS = {1: REVISION, 2: APPLICATION, 3: 0xFF}
_INDIVIDUAL = 4
_CONFORMITY = 0x83  # extended, as a stream and one by one
_RESTART, _REGISTER, _CLEAR, _CLEAR_OVERRUN = 1, 2, 10, 20


def counted(tally: Tally, request: bytes, reply: bytes, *, broadcast: bool = False) -> Tally:
    """The counters after a request was obeyed and answered with `reply`."""
    code = reply[1] if reply[0] & 0x80 else 0
    received, sent = 0x80 | 0x40 * broadcast, 0x40 | _sent_bits(code)
    return Tally(
        tally.mark,
        tally.served + 1,
        tally.exceptions + (code > 0),
        tally.unanswered + broadcast,
        tally.refused + (code == NAK),
        tally.busy + (code == BUSY),
        tally.events + (not code and request[0] != 11),
        tally.status | (1 << code - 1 if 0 < code <= 8 else 0),
        ((bytes((received,)) if broadcast else bytes((sent, received))) + tally.log)[:_LOG],
    )


def _sent_bits(code: int) -> int:
    """Bits of a send event: read exception, abort, busy, NAK."""
    if code in (ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE):
        return 1
    return {DEVICE_FAILURE: 2, ACKNOWLEDGE: 4, BUSY: 4, NAK: 8}.get(code, 0)


def _pair(number: int) -> bytes:
    return (number & 0xFFFF).to_bytes(2, "big")


def exception_status(pdu: bytes, memory: Memory) -> Answer:
    """Function 7: this device's eight bits say which exception codes it has sent; bit 0 is code 1."""
    return Answer(bytes((pdu[0], memory.tally.status)))


def diagnostics(pdu: bytes, memory: Memory) -> Answer:
    """Function 8: echo, restart, diagnostic register, counters."""
    sub, data, tally = word(pdu, 1), pdu[3:], memory.tally
    if len(data) < 2 or len(data) % 2:
        return refusal(pdu[0], ILLEGAL_VALUE)
    if sub == 0:
        return Answer(pdu)
    counters = {
        _REGISTER: tally.status,
        11: memory.messages - tally.mark,
        12: 0,  # a simulated line has no bad requests: noise is skipped before a device could count it
        13: tally.exceptions,
        14: tally.served,
        15: tally.unanswered,
        16: tally.refused,
        17: tally.busy,
        18: 0,
    }
    if sub not in counters and sub not in (_RESTART, _CLEAR, _CLEAR_OVERRUN):
        return refusal(pdu[0], ILLEGAL_FUNCTION)
    if data not in ((b"\0\0", b"\xff\0") if sub == _RESTART else (b"\0\0",)):
        return refusal(pdu[0], ILLEGAL_VALUE)
    if sub in counters:
        return Answer(pdu[:3] + _pair(counters[sub]))
    if sub == _CLEAR_OVERRUN:
        return Answer(pdu)
    kept = b"" if data == b"\xff\0" else tally.log
    return Answer(pdu, tally=Tally(mark=memory.messages, log=b"\0" + kept if sub == _RESTART else kept))


def event_counter(pdu: bytes, memory: Memory) -> Answer:
    """Function 11: never busy, and how many requests were answered without exception."""
    return Answer(pdu[:1] + b"\0\0" + _pair(memory.tally.events))


def event_log(pdu: bytes, memory: Memory) -> Answer:
    """Function 12: the counters and up to 64 events, the newest first."""
    tally = memory.tally
    body = b"\0\0" + _pair(tally.events) + _pair(memory.messages - tally.mark) + tally.log
    return Answer(pdu[:1] + bytes((len(body),)) + body)


def server_id(pdu: bytes, memory: Memory) -> Answer:
    """Function 17: the name as text, then the run indicator. Refused by a device that has no identification."""
    if not memory.objects:
        return refusal(pdu[0], ILLEGAL_FUNCTION)
    text = b" ".join(memory.objects[key] for key in (VENDOR, PRODUCT_NAME, APPLICATION))[:250]
    return Answer(pdu[:1] + bytes((len(text) + 1,)) + text + b"\xff")


def identification(pdu: bytes, memory: Memory) -> Answer:
    """Function 43/14: as much as fits in a frame, from the object that was asked on."""
    if not memory.objects or pdu[1:2] != b"\x0e":
        return refusal(pdu[0], ILLEGAL_FUNCTION)
    if len(pdu) != 4 or pdu[2] not in (*_STREAMS, _INDIVIDUAL):
        return refusal(pdu[0], ILLEGAL_VALUE)
    code, first = pdu[2], pdu[3]
    if code == _INDIVIDUAL:
        if first not in memory.objects:
            return refusal(pdu[0], ILLEGAL_ADDRESS)
        wanted = [first]
    else:
        ids = [key for key in sorted(memory.objects) if key <= _STREAMS[code]]
        wanted = ids[ids.index(first) :] if first in ids else ids  # an unknown object starts at the beginning
    room, told, following = _LONGEST_PDU - 7, [], 0
    for key in wanted:
        item = bytes((key, len(memory.objects[key]))) + memory.objects[key]
        if len(item) > room:
            following = key
            break
        room -= len(item)
        told.append(item)
    head = bytes((pdu[0], 0x0E, code, _CONFORMITY, 0xFF if following else 0, following, len(told)))
    return Answer(head + b"".join(told))
