"""What answers a request: how the reply's PDU begins and how long it is. Pure facts of the specification.

Sections are those of the Modbus Application Protocol 1.1b3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

REFUSED = 0x80
"""Set in the function code of an exception reply."""
MAX_PDU = 253
FORCE_LISTEN_ONLY = 4
"""The one diagnostic that is not answered (section 6.8)."""

Measure = Callable[[bytes], int | None]
"""The first bytes of a PDU -> how long it is in all. None: cannot be told yet; 0: this is no such PDU."""


class Reply(NamedTuple):
    """A good reply's PDU: it begins with `head` (function code first) and is `size` bytes long.

    With `measure` it tells its length itself, and `size` is the most that it may be.
    """

    head: bytes
    size: int
    measure: Measure | None = None

    def length(self, pdu: bytes) -> int | None:
        """Bytes of the PDU that begins so; None while it cannot be told, 0 when it cannot be this reply."""
        if self.measure is None:
            return self.size
        length = self.measure(pdu)
        return 0 if length is not None and length > self.size else length

    def fits(self, pdu: bytes) -> bool:
        """Whether this is a whole good reply."""
        return pdu.startswith(self.head) and self.length(pdu) == len(pdu)


def reply_to(request: bytes) -> Reply:
    """What answers a request PDU of function 1..8, 11, 12, 15..17, 20..24 or 43/14, when the device agrees."""
    function = request[0]
    if function in (1, 2):
        size = (_word(request, 3) + 7) // 8
        return Reply(bytes((function, size)), 2 + size)
    if function in (3, 4, 23):
        size = 2 * _word(request, 3)
        return Reply(bytes((function, size)), 2 + size)
    if function in (5, 6, 15, 16):
        return Reply(request[:5], 5)
    if function == 20:
        size = 2 * _word(request, 7)
        return Reply(bytes((function, size + 2, size + 1, 6)), 4 + size)
    if function in (21, 22):
        return Reply(request, len(request))
    if function == 8:
        return Reply(request if request[1:3] == b"\0\0" else request[:3], len(request))
    if function in (7, 11):
        return Reply(request, _LENGTHS[function])
    return Reply(request[:3] if function == 43 else request[:1], MAX_PDU, _MEASURES[function])


def pdu_length(pdu: bytes) -> int | None:
    """Bytes of the reply's PDU that begins so, refusals included; None while it cannot be told, 0 when it is none."""
    if not pdu:
        return None
    if pdu[0] & REFUSED:
        return 2
    if length := _LENGTHS.get(pdu[0]):
        return length
    measure = _MEASURES.get(pdu[0])
    return measure(pdu) if measure else 0


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")


def _counted(pdu: bytes) -> int | None:
    """Function, byte count, so many bytes."""
    return 2 + pdu[1] if len(pdu) > 1 else None


def _queue(pdu: bytes) -> int | None:
    """Function, byte count of two bytes, how many registers, the registers: 31 at most (section 6.18)."""
    if len(pdu) < 5:
        return None
    size, many = _word(pdu, 1), _word(pdu, 3)
    return 3 + size if many <= 31 and size == 2 + 2 * many else 0


def _identification(pdu: bytes) -> int | None:
    """2B 0E, read code, conformity, more follows, next object, how many, then (id, length, bytes) each (6.21)."""
    if len(pdu) < 7:
        return None if b"\x2b\x0e".startswith(pdu[:2]) else 0
    if pdu[1] != 0x0E:
        return 0
    at = 7
    for _ in range(pdu[6]):
        if at > MAX_PDU:
            return 0
        if len(pdu) < at + 2:
            return None
        at += 2 + pdu[at + 1]
    return at


_LENGTHS = {5: 5, 6: 5, 7: 2, 8: 5, 11: 5, 15: 5, 16: 5, 22: 7}
_MEASURES: dict[int, Measure] = {
    **dict.fromkeys((1, 2, 3, 4, 12, 17, 20, 21, 23), _counted),
    24: _queue,
    43: _identification,
}
