"""One unit as the line knows it: PDUs become exchanges, replies become PDUs."""

from __future__ import annotations

from drivers.base import Exchange
from drivers.modbus.adu import FRAMINGS
from drivers.modbus.reply import Reply

TURNAROUND = 0.1
"""Seconds of rest after a broadcast, so that every unit has done it. Modbus over Serial Line 1.02, 2.4.1."""


class Unit:
    """One unit on its line.

    `number` is 0..255; 0 is the broadcast address of a serial line, which nothing answers. `framing` is rtu (also over
    TCP), tcp or ascii. `numbered`: a reply says which request it answers. ValueError for anything else.
    """

    def __init__(self, number: int, framing: str = "rtu") -> None:
        if framing not in FRAMINGS:
            raise ValueError(f"framing {framing!r} is unknown: use {', '.join(FRAMINGS)}")
        if not 0 <= number <= 255:
            raise ValueError(f"unit {number} is outside 0..255")
        self.number = number
        self.framing = framing
        self.numbered = framing == "tcp"
        self.broadcast = number == 0 and not self.numbered
        self.unwrap = FRAMINGS[framing].unwrap
        self._wire = FRAMINGS[framing]
        self._transaction = 0

    def exchange(self, request: bytes, reply: Reply | None, what: str, *, hold: bool = False) -> Exchange:
        """A PDU on its way: framed, numbered, with the search for its reply. `reply` None: nothing answers it."""
        frame = self._frame(request)
        label = f"unit {self.number}: FC{request[0]} {what}"
        if self.broadcast or reply is None:
            return Exchange(frame, None, 0, label, min_wait=TURNAROUND if self.broadcast else 0.0)
        find = self._wire.find(self.number, frame, reply)
        mirrored = reply.size == len(request) and request.startswith(reply.head)
        return Exchange(frame, find, self._wire.size(reply.size), label, hold=hold, mirrored=mirrored)

    def renumbered(self, exchange: Exchange, request: bytes, reply: Reply) -> Exchange:
        """The same exchange, under a transaction number of its own."""
        frame = self._frame(request)
        find = self._wire.find(self.number, frame, reply)
        size, label, mirrored = exchange.reply_size, exchange.label, exchange.mirrored
        return Exchange(frame, find, size, label, hold=exchange.hold, mirrored=mirrored)

    def expect_answers(self) -> None:
        """ValueError when nothing answers this address."""
        if self.broadcast:
            raise ValueError("unit 0 is the broadcast address of a serial line: nothing answers it")

    def _frame(self, request: bytes) -> bytes:
        self._transaction = (self._transaction + 1) % 65536
        return self._wire.wrap(self.number, self._transaction, request)
