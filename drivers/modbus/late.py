"""Late replies: what was given up may still come, and must not answer another request.

On a serial line a reply names its unit, its function and its length, but not its request. So after silence, or noise
that was no reply, something of another length is asked first: a device answers in order, so once that is answered,
what comes next is fresh. A device that offers one length only has to give the same answer twice, and so has one that
refuses: once more than there are replies that may still come.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from drivers.base import BadFrame, NoReply, Talk
from drivers.modbus.ask import Ask
from drivers.modbus.explain import was_the_reply
from drivers.modbus.reply import REFUSED
from drivers.modbus.unit import Unit

LATE = 10.0
"""Seconds after which a reply that was given up is not expected any more."""


class Unsure(BadFrame):
    """An answer that may belong to an earlier request."""


class Fetch:
    """Fetches replies from one unit, and remembers what it still owes.

    `other(ask, sizes)` gives a read that may be asked before `ask` and whose reply's size is not among `sizes`.
    """

    def __init__(self, unit: Unit, other: Callable[[Ask, Collection[int]], Ask | None]) -> None:
        self.now = 0.0
        self._unit = unit
        self._other = other
        self._owed: list[tuple[int, float]] = []
        """(bytes, when it was given up) of each reply that may still come."""

    def reply(self, ask: Ask) -> Talk[bytes]:
        """Ask, and return the reply PDU, good or refusal. A bad frame is asked for once more, silence is not.

        What reading clears is asked exactly once or, while it could be mixed up, not at all. NoReply, BadFrame.
        """
        try:
            return (yield from self._guarded(ask) if self._owed else self._send(ask))
        except Unsure:
            raise
        except BadFrame:
            if ask.clears:
                raise
        return (yield from self._guarded(ask))

    def _guarded(self, ask: Ask) -> Talk[bytes]:
        self._owed = [(size, since) for size, since in self._owed if self.now - since < LATE]
        sizes = [size for size, _ in self._owed]
        if sizes and (ask.clears or ask.reply.size in sizes):
            other = self._other(ask, sizes)
            if other is not None:
                yield from self._settled(other)
            elif not ask.clears:
                return (yield from self._repeated(ask))
            if ask.clears and self._owed:
                raise NoReply(f"{ask.exchange.label}: not asked, an earlier reply may still come and reading clears it")
        return (yield from self._settled(ask))

    def _settled(self, ask: Ask) -> Talk[bytes]:
        """Ask for a length that is not owed. A refusal has no length: each that is owed may have been one."""
        reply = yield from self._send(ask)
        doubts = 0
        while doubts < len(self._owed) and reply[0] & REFUSED:
            doubts += 1
            reply = yield from self._send(ask)
        if self._owed:
            self._still_owed(reply, len(self._owed) if reply[0] & REFUSED else doubts)
        return reply

    def _repeated(self, ask: Ask) -> Talk[bytes]:
        """Ask until one answer cannot be among those that are late."""
        late = len(self._owed)
        first = yield from self._send(ask)
        for _ in range(late):
            again = yield from self._send(ask)
            if again != first:
                raise Unsure(f"{ask.exchange.label}: two answers differ after a time-out, one may be late")
        self._still_owed(first, late)
        return first

    def _still_owed(self, reply: bytes, many: int) -> None:
        """Older ones have come or never will; of those asked for since, so many may: they are like this one."""
        self._owed = [(len(reply), since) for _, since in self._owed[len(self._owed) - many :]]

    def _send(self, ask: Ask) -> Talk[bytes]:
        """One exchange. Where no reply came, it may still come."""
        unit = self._unit
        exchange = unit.renumbered(ask.exchange, ask.request, ask.reply) if unit.numbered else ask.exchange
        if self._owed:  # what is counted here must not change under us: no other conversation comes between
            exchange = replace(exchange, hold=True)
        try:
            frame = yield exchange
        except NoReply:
            self._owe(ask)
            raise
        except BadFrame as error:
            if not was_the_reply(unit, exchange, error.heard):
                self._owe(ask)
            raise
        return unit.unwrap(frame)

    def _owe(self, ask: Ask) -> None:
        if not self._unit.numbered:
            self._owed.append((ask.reply.size, self.now))
