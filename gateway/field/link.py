"""What the rest of the room needs of a byte port, and how a reply is found among the bytes that arrive.

A link owns the time on its wire: response time-out, inter-frame silence, quiet gap, one write per frame. It is used by
one task, one exchange at a time.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple, Protocol

from drivers.base import BadFrame, Exchange, Find, Line, NoReply, Reject
from gateway.clock import Clock
from gateway.errors import LinkError

KEEP = 4096
"""Bytes that are looked at for one reply. A line that says more babbles, and is closed."""
BROKEN = 0.004
"""When exactly as many bytes have come as the reply has, and they are not the reply, so much silence ends the wait."""
SILENCE = 0.010
"""... and when more have come: noise stood before it, and its end may still be on its way."""
FRAGMENT = 0.050
"""A frame that has begun may pause for so long: USB adapters hand over in pieces (16 ms latency timer)."""
FIFO = 8
"""Characters that a UART hands over at once: no silence is shorter than this on a slow line."""
QUIET_GAP = 0.3
"""After a time-out on a line without transaction numbers: what comes now is late, and must not answer the next."""
PATIENCE = 0.5
"""Seconds that a request waits for a line that does not fall silent."""


class Reply(NamedTuple):
    """A reply frame and how it came. Times in seconds.

    `at` is the monotonic time at which its last byte was read, `took` the time from the request's last byte to the
    reply's first; `skipped` are bytes before it that were not the reply, without the echo.
    """

    frame: bytes
    at: float
    took: float = 0.0
    skipped: bytes = b""
    echoed: bool = False


class Link(Protocol):
    """What the owner of a bus needs of a port."""

    busy: float
    """Seconds on the wire so far, waiting included."""
    free_at: float
    """When the next request may go out, monotonic seconds: silences and gaps belong to the exchange before."""

    async def open(self) -> None:
        """Open the port. LinkError when it cannot be used now."""

    def close(self) -> None: ...

    async def exchange(self, step: Exchange, timeout: float, quiet_gap: float = QUIET_GAP) -> Reply:
        """Send and wait for the reply, at most `timeout` seconds plus wire time. NoReply, BadFrame, LinkError.

        After a reply that did not come the line is left alone for `quiet_gap` seconds.
        """

    async def pause(self, seconds: float) -> None:
        """Keep the line silent for so long."""

    def set_line(self, line: Line | None) -> None:
        """Change speed and format; None: back to those of the site file. BusError when the port cannot do it."""

    def strays(self) -> bytes:
        """What came between the last exchange and the one before: a late reply, noise."""

    def errors(self) -> dict[str, int]:
        """Framing, parity and overrun errors that the UART has counted; empty where it does not tell."""


class Inbox:
    """Bytes that arrive, until the reply is found among them."""

    def __init__(self, clock: Clock, name: str, *, may_echo: bool = True) -> None:
        self.last = 0.0
        """When the last byte came."""
        self.echoes = False
        """Whether the line gives back what is sent on it."""
        self.strays = b""
        """What came between the last exchange and the one before."""
        self._now = clock.monotonic
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._skipped = bytearray()
        self._strays = bytearray()
        self._foreign = 0
        self._step: Exchange | None = None
        self._find: Find | None = None
        self._waiter: asyncio.Future[bytes] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        self._character = 0.0
        self._may_echo = may_echo
        self._echoed = False

    def feed(self, data: bytes | memoryview) -> bool:
        """Take what the port gave. False when the line babbles: it should not be read any more."""
        self.last = self._now()
        if self._waiter is None or self._waiter.done():
            self._strays += data
            return len(self._strays) <= KEEP
        self._buffer += data
        if len(self._buffer) + len(self._skipped) > KEEP:
            self.fail(LinkError(babbles(self._name)))
            return False
        if not self._search():
            more = self._came() - self._step.reply_size  # type: ignore[union-attr]
            if more >= 0:
                self._arm(max(SILENCE if more else BROKEN, FIFO * self._character))
        return True

    def fail(self, error: Exception) -> None:
        """Whoever waits learns it now."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    async def reply(self, step: Exchange, sent: float, deadline: float, character: float) -> Reply:
        """Wait for the reply until the deadline, at most. NoReply, BadFrame; LinkError when the port is lost.

        `sent` is when the request's last byte was out, `character` the wire time of a byte.
        """
        self._step, self._find, self._deadline, self._echoed = step, step.find, deadline, False
        self._character = character
        self._foreign = 0
        self.strays = b""
        if self._strays:
            self.strays = bytes(self._strays)
            self._strays.clear()
        self._waiter = self._loop.create_future()
        self._arm(deadline - self._now())
        try:
            frame = await self._waiter
            took = max(self.last - sent - len(frame) * character, 0.0)
            return Reply(frame, self.last, took, bytes(self._skipped) if self._skipped else b"", self._echoed)
        finally:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._waiter = None
            self._buffer.clear()
            if self._skipped:
                self._skipped.clear()

    def _search(self) -> bool:
        """Look for the reply in what has come; true when it is found."""
        buffer, find, waiter = self._buffer, self._find, self._waiter
        if (self._may_echo and self._is_echo()) or find is None or waiter is None:
            return False
        while buffer:
            found = find(buffer)
            if found is None:
                return False
            if isinstance(found, Reject):
                self._skipped += buffer[: found.size]
                self._foreign += found.foreign
                del buffer[: found.size]
                continue
            if self._step is not None and not self._step.mirrored:
                self.echoes = self._echoed
            if found.start:
                self._skipped += buffer[: found.start]
            waiter.set_result(bytes(buffer[found.start : found.end]))
            return True
        return False

    def _is_echo(self) -> bool:
        """Cut the echo of the request off; true while all that came may be the beginning of one.

        Where the reply may be the request's own bytes, only a line that is known to echo has its first copy cut.
        """
        step, buffer = self._step, self._buffer
        if step is None or self._echoed or (step.mirrored and not self.echoes):
            return False
        request = step.request
        if len(buffer) < len(request):
            return request.startswith(buffer)
        at = buffer.find(request)
        if at >= 0:
            self._skipped += buffer[:at]
            del buffer[: at + len(request)]
            self._echoed = self.echoes = True
        return False

    def _came(self) -> int:
        """Bytes that may be the reply or its ruins: not the frames of others, not the echo."""
        return len(self._buffer) + len(self._skipped) - self._foreign

    def _arm(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._expire)

    def _expire(self) -> None:
        if self._waiter is None or self._waiter.done():
            return
        now = self._now()
        rest = self.last + max(FRAGMENT, FIFO * self._character) - now
        if self._came() < (self._step.reply_size if self._step else 0):
            if now < self._deadline:  # less than a reply came: it may still be on its way
                self._arm(self._deadline - now)
                return
            if self._buffer and rest > 0 and now < self._deadline + PATIENCE:
                self._arm(rest)
                return
        heard = bytes(self._skipped + self._buffer)
        if self._came():
            self.fail(BadFrame(f"{len(heard)} bytes came that are no answer: {heard[:32].hex(' ')}", heard))
        else:
            self.fail(NoReply("no answer within the response time-out", heard=heard))


def babbles(name: str) -> str:
    """Say that a line never falls silent, and what to do."""
    return (
        f"{name} babbles: bytes come without end and nothing can be asked. A device holds the line, or its wires pick "
        "up a disturbance: disconnect one device after the other until it is silent"
    )
