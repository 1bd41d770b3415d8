"""The functions beside reading and writing points, each a conversation of its own.

All of them ask once and raise NoReply or BadFrame as the link does, Refused when the device says no, and ValueError
before anything is sent when the request makes no sense. Sections are those of the Modbus Application Protocol 1.1b3.
"""

from __future__ import annotations

from drivers.base import BadFrame, Refused, Talk
from drivers.modbus import pdu
from drivers.modbus.reply import FORCE_LISTEN_ONLY, reply_to
from drivers.modbus.unit import Unit

NAMES = ("vendor", "product", "revision", "url", "product_name", "model", "application")
"""The objects 0..6 of a device identification (6.21, table of objects)."""
MOST_EXCHANGES = 16
"""After so many, an identification that always says "more follows" ends."""
MOST_FILE_READ, MOST_FILE_WRITE = 124, 122
"""Registers of a file that fit one PDU."""

_BASIC, _REGULAR = 1, 2
_RUN = {0x00: False, 0xFF: True}


class Functions:
    """What a unit can be asked beside its points."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit

    def exception_status(self) -> Talk[int]:
        """Return the eight status bits that the vendor chose, as a number (FC 7, 6.7)."""
        return (yield from self._ask(pdu.exception_status(), "exception status"))[1]

    def diagnostics(self, sub: int, data: bytes = b"\0\0") -> Talk[bytes]:
        """Return what follows the sub-function (FC 8, 6.8); b"" for 4, after which a device stays silent."""
        request = pdu.diagnostics(sub, data)
        if sub == FORCE_LISTEN_ONLY:
            yield self.unit.exchange(request, None, f"diagnostics {sub}")
            return b""
        return (yield from self._ask(request, f"diagnostics {sub}"))[3:]

    def comm_event_counter(self) -> Talk[tuple[int, int]]:
        """Return (status, count): status 0xFFFF while a command is at work, events modulo 65536 (FC 11, 6.9)."""
        reply = yield from self._ask(pdu.comm_event_counter(), "event counter")
        return _word(reply, 1), _word(reply, 3)

    def comm_event_log(self) -> Talk[tuple[int, int, int, bytes]]:
        """Return (status, events, messages, the last events, one byte each, the newest first) (FC 12, 6.10)."""
        reply = yield from self._ask(pdu.comm_event_log(), "event log")
        if len(reply) < 8:
            raise BadFrame(f"an event log without its counters: {reply.hex(' ')}")
        return _word(reply, 2), _word(reply, 4), _word(reply, 6), reply[8:]

    def server_id(self) -> Talk[tuple[bytes, bool | None]]:
        """Return the data as it came, and whether the device runs (FC 17, 6.13).

        Where the run indicator stands is the vendor's choice: it is looked for behind one byte of identity, then at
        the end. None: neither is 00 or FF.
        """
        reply = yield from self._ask(pdu.server_id(), "server identity")
        data = reply[2:]
        places = [data[1:2], data[-1:]]
        return data, next((_RUN[place[0]] for place in places if place and place[0] in _RUN), None)

    def read_file(self, file: int, record: int, count: int) -> Talk[bytes]:
        """Return `count` registers of a file, from `record` on, as bytes (FC 20, 6.14)."""
        _check_file(file, record, count, MOST_FILE_READ)
        request = pdu.read_file(file, record, count)
        return (yield from self._ask(request, f"file {file} record {record} ({count} registers)"))[4:]

    def write_file(self, file: int, record: int, data: bytes) -> Talk[None]:
        """Set registers of a file, from `record` on (FC 21, 6.15)."""
        _check_words(data)
        _check_file(file, record, len(data) // 2, MOST_FILE_WRITE)
        yield from self._ask(pdu.write_file(file, record, data), f"write file {file} record {record}")

    def mask_write(self, at: int, and_mask: int, or_mask: int) -> Talk[None]:
        """Make holding register `at` (old AND and_mask) OR (or_mask AND NOT and_mask), in the device (FC 22, 6.16)."""
        for number in (at, and_mask, or_mask):
            _check_16_bits(number)
        yield from self._ask(pdu.mask_write(at, and_mask, or_mask), f"mask write holding {at}")

    def read_write(self, first: int, count: int, at: int, data: bytes) -> Talk[bytes]:
        """Set holding registers from `at` on, then return `count` of them from `first` on, as bytes (FC 23, 6.17)."""
        _check_words(data)
        _check_registers(first, count, 125)
        _check_registers(at, len(data) // 2, 121)
        what = f"write holding {at}, read holding {first}..{first + count - 1}"
        return (yield from self._ask(pdu.read_write(first, count, at, data), what))[2:]

    def fifo(self, at: int) -> Talk[list[int]]:
        """Return the registers of the queue whose count stands in `at`, at most 31; it is not emptied (FC 24, 6.18)."""
        _check_16_bits(at)
        reply = yield from self._ask(pdu.fifo(at), f"queue {at}")
        return [_word(reply, place) for place in range(5, len(reply), 2)]

    def identify(self) -> Talk[dict[str, str]]:
        """Return vendor, product, revision and, where there is more, url, product_name, model, application (FC 43/14).

        {} for a device that does not know the function; what is empty is left out. At most 16 exchanges (6.21).
        """
        try:
            found, level, left = yield from self._objects(_BASIC, 0, MOST_EXCHANGES)
        except Refused as error:
            if error.code != pdu.ILLEGAL_FUNCTION:
                raise
            return {}
        if level >= _REGULAR and left:
            try:
                more, _, _ = yield from self._objects(_REGULAR, len(NAMES[:3]), left)
                found = more | found
            except Refused:  # it promised more than it has
                pass
        return {NAMES[number]: found[number] for number in sorted(found) if number < len(NAMES) and found[number]}

    def _objects(self, category: int, first: int, left: int) -> Talk[tuple[dict[int, str], int, int]]:
        """Collect the objects of a category: (number -> text, conformity level, exchanges that are left)."""
        found: dict[int, str] = {}
        level = 0
        while left:
            left -= 1
            reply = yield from self._ask(pdu.identification(category, first), f"identification {category} from {first}")
            level = reply[3] & 0x7F
            found |= _texts(reply)
            if reply[4] != 0xFF:
                break
            first = reply[5]
        return found, level, left

    def _ask(self, request: bytes, what: str) -> Talk[bytes]:
        """One exchange; the PDU of a good reply."""
        self.unit.expect_answers()
        exchange = self.unit.exchange(request, reply_to(request), what)
        reply = self.unit.unwrap((yield exchange))
        code = pdu.exception(reply)
        if code is not None:
            raise pdu.refused(exchange.label, code)
        return reply


def _texts(reply: bytes) -> dict[int, str]:
    """Object number -> text. The lengths were checked when the frame was found."""
    found = {}
    at = 7
    for _ in range(reply[6]):
        number, size = reply[at], reply[at + 1]
        found[number] = reply[at + 2 : at + 2 + size].decode("utf-8", "replace").strip("\0 ")
        at += 2 + size
    return found


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")


def _check_16_bits(number: int) -> None:
    if not 0 <= number <= 0xFFFF:
        raise ValueError(f"{number} is outside 0..65535")


def _check_words(data: bytes) -> None:
    if not data or len(data) % 2:
        raise ValueError(f"{len(data)} bytes are no registers: they take two each")


def _check_registers(first: int, count: int, most: int) -> None:
    if not 1 <= count <= most or first < 0 or first + count > 65536:
        raise ValueError(f"{count} registers from {first} on: at most {most} at once, addresses 0..65535")


def _check_file(file: int, record: int, count: int, most: int) -> None:
    if not 1 <= file <= 0xFFFF or not 0 <= record <= 9999 or not 1 <= count <= most:
        raise ValueError(
            f"{count} registers of file {file} from record {record} on: files are 1..65535, records 0..9999, "
            f"at most {most} registers at once"
        )
