"""What every function of a device speaks in: the answer, the exception codes, the device's own memory. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from gateway.simulator.image import Write

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE, DEVICE_FAILURE, ACKNOWLEDGE, BUSY, NAK = 1, 2, 3, 4, 5, 6, 7
NO_TARGET = 0x0B


class Tally(NamedTuple):
    """The counters of functions 7, 8, 11 and 12. `mark` is the bus message from which on messages are counted."""

    mark: int = 0
    served: int = 0
    exceptions: int = 0
    unanswered: int = 0
    refused: int = 0
    busy: int = 0
    events: int = 0
    status: int = 0
    log: bytes = b""


class Memory(NamedTuple):
    """What a device knows beside its registers.

    `objects` are those of its identification, none where it has none; `records` are the file registers that were
    written, by (file, record); `messages` is how many requests its bus has carried.
    """

    objects: Mapping[int, bytes] = MappingProxyType({})
    records: Mapping[tuple[int, int], bytes] = MappingProxyType({})
    tally: Tally = Tally()
    messages: int = 0


class Answer(NamedTuple):
    """The reply PDU, and what the request changes: registers, file records, counters."""

    pdu: bytes
    write: Write | None = None
    records: Mapping[tuple[int, int], bytes] | None = None
    tally: Tally | None = None


def refusal(function: int, code: int) -> Answer:
    """An exception reply."""
    return Answer(bytes((function & 0x7F | 0x80, code)))


def word(pdu: bytes, at: int) -> int:
    """The 16-bit number that stands at this byte of a PDU."""
    return int.from_bytes(pdu[at : at + 2], "big")
