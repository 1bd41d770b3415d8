"""The owner of a bus holds every conversation on it: those of the poller, and what others ask between two frames."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from drivers.base import BadFrame, BusError, Exchange, Finding, Frame, Line, NoReply, Pause, Talk
from gateway.clock import Clock
from gateway.errors import LinkError
from gateway.field.diagnosis import ECHO, LATE, Record
from gateway.field.link import QUIET_GAP, Link, Reply
from gateway.log import logger

T = TypeVar("T")

LATE_WITHIN = 10.0
"""Seconds in which a reply that was given up is known when it comes."""
MOST_OWED = 8
MOST_WAITING = 32
"""Conversations that may wait for their turn; one more is refused."""


class DriverFailed(BadFrame):
    """A driver's own bug: its device is concerned, the bus goes on."""


@dataclass(slots=True)
class Partner:
    """Whom a conversation is with: its name for people, what is remembered of it, who explains its bytes."""

    name: str
    unit: int | None = None
    record: Record = field(default_factory=Record)
    explain: Callable[[Exchange, bytes], Sequence[Finding]] | None = None


class Owed(NamedTuple):
    """A reply that was given up, and until when it may still come."""

    step: Exchange
    partner: Partner
    until: float


class Traced(NamedTuple):
    """One exchange as the wire saw it, for whoever watches. `at` is when the request began, monotonic seconds.

    `took` is from there to the end of the reply or of the wait; `reply` is b"" where none came; `heard` are the other
    bytes; `error` is empty when all went well.
    """

    at: float
    took: float
    partner: str
    label: str
    request: bytes
    reply: bytes
    heard: bytes
    error: str


@dataclass(slots=True)
class Asked(Generic[T]):
    """A conversation of somebody else, waiting for its turn."""

    talk: Talk[T]
    partner: Partner
    timeout: float | None
    quiet_gap: float
    done: asyncio.Future[T]


class Talks:
    """Holds conversations on one link, one at a time.

    `timeout` is the longest response time of a device. Between any two exchanges, except after one that says `hold`,
    what others have asked goes first.
    """

    def __init__(self, name: str, link: Link, clock: Clock, timeout: float) -> None:
        self.link = link
        self.watchers: list[Callable[[Traced], None]] = []
        self.answers = 0
        self.at = 0.0
        """When the last reply came, or the wait for it ended."""
        self._name = name
        self._clock = clock
        self._now = clock.monotonic
        self._timeout = timeout
        self._waiting: deque[Asked[Any]] = deque()
        self._owed: deque[Owed] = deque(maxlen=MOST_OWED)
        self._bell: asyncio.Future[None] | None = None
        self._fault: str | None = None
        self._strict = bool(os.environ.get("GATEWAY_STRICT"))

    # What others ask --------------------------------------------------------------------------------------------------

    async def ask(
        self, talk: Talk[T], partner: Partner, timeout: float | None = None, quiet_gap: float = QUIET_GAP
    ) -> T:
        """Have the owner of the bus hold a conversation, between two frames of its own, and return its result.

        While the port is being opened for the first time, it waits.

        BusError as the conversation fails; LinkError when the port cannot be used, or too many wait.
        """
        if self._fault is not None:
            raise LinkError(self._fault)
        if len(self._waiting) >= MOST_WAITING:
            raise LinkError(f"{MOST_WAITING} others wait for {self._name} already: try again in a moment")
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        asked = Asked(talk, partner, timeout, quiet_gap, done)
        self._waiting.append(asked)
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)
        try:
            return await done
        finally:
            done.cancel()  # who does not wait any more is not served any more

    async def serve(self) -> None:
        """Hold what others have asked for."""
        while self._waiting:
            asked = self._waiting.popleft()
            if asked.done.done():
                continue
            try:
                result = await self._hold(asked.talk, asked.partner, asked.timeout, asked.quiet_gap, others=False)
            except (BusError, ValueError) as error:
                _fail(asked, error)
            except LinkError as error:
                _fail(asked, error)
                raise
            else:
                if not asked.done.done():
                    asked.done.set_result(result)

    async def rest(self, seconds: float) -> None:
        """Nothing of our own is due for so long: serve others meanwhile. May return early."""
        if self._waiting:
            await self.serve()
            return
        loop = asyncio.get_running_loop()
        self._bell = loop.create_future()
        timer = loop.call_later(max(seconds, 0.0), _ring, self._bell)
        try:
            await self._bell
        finally:
            timer.cancel()
            self._bell = None
        await self.serve()

    def port_is(self, fault: str | None) -> None:
        """The port is usable (None), or why it is not: who waits is told."""
        self._fault = fault
        while fault is not None and self._waiting:
            _fail(self._waiting.popleft(), LinkError(fault))

    # Our own ----------------------------------------------------------------------------------------------------------

    def hold(
        self, talk: Talk[T], partner: Partner, timeout: float | None = None, quiet_gap: float = QUIET_GAP
    ) -> Coroutine[Any, Any, T]:
        """Hold a conversation and return its result; `timeout` None means what the partner's record has learned.

        NoReply, BadFrame, Refused as the conversation lets them through; DriverFailed for a bug; LinkError.
        """
        return self._hold(talk, partner, timeout, quiet_gap, others=True)

    async def _hold(
        self, talk: Talk[T], partner: Partner, timeout: float | None, quiet_gap: float, *, others: bool
    ) -> T:
        frame = b""
        held = line_changed = False
        try:
            step = next(talk)
            while True:
                if self._waiting and others and not held:
                    await self.serve()
                try:
                    if isinstance(step, Exchange):
                        held = step.hold
                        frame = (await self._exchange(step, partner, timeout, quiet_gap)).frame
                    else:
                        held = isinstance(step, Line)
                        line_changed |= held
                        frame = await self._aside(step)
                except BusError as error:
                    step = talk.throw(error)
                else:
                    step = talk.send(frame)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        except (BusError, LinkError, ValueError, asyncio.CancelledError):
            raise
        except Exception as error:  # design: a driver's bug costs its device, not the other buses
            if self._strict:
                raise
            logger.exception("a driver failed", device=partner.name, frame=frame.hex(" "))
            raise DriverFailed(f"the driver of {partner.name} failed: {error!r}") from error
        finally:
            if line_changed:
                self.link.set_line(None)

    async def _aside(self, step: Pause | Line) -> bytes:
        """Take a step that asks nothing. BusError when the line cannot be set so."""
        if isinstance(step, Pause):
            await self.link.pause(step.seconds)
        else:
            self.link.set_line(step)
        self.at = self._now()
        return b""

    async def _exchange(self, step: Exchange, partner: Partner, timeout: float | None, quiet_gap: float) -> Reply:
        record = partner.record
        began = self._now()
        try:
            reply = await self.link.exchange(
                step, record.timeout(self._timeout) if timeout is None else timeout, quiet_gap
            )
        except (NoReply, BadFrame) as error:
            self.at = self._now()
            silent = isinstance(error, NoReply)
            record.failed(silent=silent)
            self._account(step, partner, error.heard)
            if silent:
                self._owed.append(Owed(step, partner, self.at + LATE_WITHIN))
            if self.watchers:
                self._show(began, step, partner, Reply(b"", self.at, skipped=error.heard), str(error))
            raise
        self.at = reply.at
        if step.find is not None:
            self.answers += 1
            record.answered(reply.took)
        if reply.skipped or reply.echoed or self._owed:
            if reply.echoed:
                record.counts[ECHO] += 1
            self._account(step, partner, reply.skipped)
        if self.watchers:
            self._show(began, step, partner, reply, "")
        return reply

    def _account(self, step: Exchange, partner: Partner, heard: bytes) -> None:
        """Say what bytes were that are no reply: late ones of those that owe one, then whatever the driver finds."""
        while self._owed and self._owed[0].until < self.at:
            self._owed.popleft()
        for owed in tuple(self._owed):
            strays = self.link.strays()
            if (place := found_in(owed.step, heard)) is not None:
                heard = heard[: place.start] + heard[place.end :]
            elif not strays or found_in(owed.step, strays) is None:
                continue
            owed.partner.record.counts[LATE] += 1
            self._owed.remove(owed)
        if heard and partner.explain is not None:
            partner.record.found(partner.explain(step, heard))

    def _show(self, began: float, step: Exchange, partner: Partner, reply: Reply, error: str) -> None:
        took, frame = self.at - began, reply.frame
        traced = Traced(began, took, partner.name, step.label, step.request, frame, reply.skipped, error)
        for watcher in tuple(self.watchers):
            watcher(traced)


def found_in(step: Exchange, data: bytes) -> Frame | None:
    """Where the reply to this request stands in these bytes."""
    at = 0
    while step.find is not None and at < len(data):
        found = step.find(data[at:])
        if isinstance(found, Frame):
            return Frame(at + found.start, at + found.end)
        if found is None:
            break
        at += found.size
    return None


def _ring(bell: asyncio.Future[None]) -> None:
    if not bell.done():
        bell.set_result(None)


def _fail(asked: Asked[Any], error: Exception) -> None:
    if not asked.done.done():
        asked.done.set_exception(error)
