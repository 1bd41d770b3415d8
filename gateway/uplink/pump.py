"""Sends over one session: the store's batches, and what the publisher has to say between them.

Everything of QoS 1 goes through here, so that the window (the broker's receive maximum, or less) holds for all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack

from gateway.clock import UNSYNCED, Clock
from gateway.errors import UplinkError
from gateway.model import Batch, Site
from gateway.uplink import refusals
from gateway.uplink.desk import SMALLEST, Desk, Pace
from gateway.uplink.holds import NOBODY_LISTENS, NOT_AUTHORISED, REFUSED
from gateway.uplink.message import FAILURES, SUCCESS, Labels
from gateway.uplink.message import NOBODY_LISTENS as UNHEARD
from gateway.uplink.mqtt import Session
from gateway.uplink.notices import DEAD_LETTER
from gateway.uplink.payload import native, native_json
from gateway.uplink.share import Share
from gateway.uplink.topics import STREAMS, Topics

if TYPE_CHECKING:
    from gateway.store import Store

FORMATS = {
    "native": (native.split, "application/msgpack"),
    "native-json": (native_json.split, "application/json"),
}
_TOO_LARGE, _CLOSED = "too large for any packet that it takes", refusals.reason(0x87)

Key = tuple[str, str, int]


@dataclass(slots=True)
class Flight:
    """One batch on its way: `left` of its messages are not confirmed, `worst` is the highest code so far."""

    batch: Batch
    left: int
    sent: float
    worst: int = SUCCESS


class Item(NamedTuple):
    """One message; `landed` is told the PUBACK's code, or None when the connection ended first."""

    topic: str
    payload: bytes
    retain: bool
    labels: Labels
    landed: Callable[[int | None], None]


class Nap(NamedTuple):
    """How long to rest; `for_more`: or until the store has more; `held`: some of what is there must wait."""

    seconds: float
    for_more: bool = False
    held: bool = False


class Pump:
    """The sending side of one session."""

    def __init__(self, session: Session, store: Store, clock: Clock, *, site: Site, desk: Desk, pace: Pace) -> None:
        uplink = site.uplink
        self._session = session
        self._store = store
        self._clock = clock
        self._topics = Topics(uplink.prefix, site.gateway)
        self._by_ioc = uplink.confirm == "ioc"
        self._split, content_type = FORMATS[uplink.format]
        self._labels = Labels(content_type, (("schema", "v1"), ("gw", site.gateway)))
        self._json = Labels("application/json", (("schema", "v1"), ("gw", site.gateway)))
        self._desk = desk
        self._pace = pace
        self.window = max(1, min(uplink.window, session.receive_maximum))
        self._share = Share(max(1, self.window // 2))
        self._items: deque[Item] = deque()
        self._flying: dict[asyncio.Future[int], Item] = {}
        self._largest_lost = 0
        self._backlog = 0
        self._unconfirmed: dict[Key, Flight] = {}
        self._taking = False
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle_wanted = False
        self._unsent = 0
        self._progress = self._looked = clock.monotonic()

    # ---- what others ask for

    def say(self, topic: str, body: bytes) -> asyncio.Future[int]:
        """Publish a retained message; the future gives the PUBACK's code, or UplinkError."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._items.append(Item(topic, body, retain=True, labels=self._json, landed=partial(_fulfil, future)))
        self._wake.set()
        return future

    def start(self) -> None:
        """From now on batches are sent too: what explains them has been published."""
        self._taking = True
        self._wake.set()

    def wake(self) -> None:
        """Something has changed that the pump cannot see."""
        self._wake.set()

    async def idle(self) -> None:
        """Return when all that can be sent is sent and confirmed."""
        self._idle.clear()
        self._idle_wanted = True
        self._wake.set()
        await self._idle.wait()

    def _is_idle(self, nap: Nap) -> bool:
        if self._flying or self._unconfirmed or not nap.for_more:
            return False
        stats = self._store.stats()
        return nap.held or stats["pending_batches"] <= stats["parked_batches"]

    def acknowledged(self, epoch: str, stream: str, ranges: tuple[tuple[int, int], ...]) -> None:
        """The IOC has these batches."""
        latest = 0.0
        for key in [k for k in self._unconfirmed if k[:2] == (epoch, stream)]:
            if any(first <= key[2] <= last for first, last in ranges):
                latest = max(latest, self._unconfirmed.pop(key).sent)
        self._send_again(stream, latest - self._pace.overtaken)
        self._wake.set()

    def learn(self) -> None:
        """The session has ended. If the broker choked, the largest message that it left unanswered was too large."""
        if self._session.choked and self._largest_lost > SMALLEST:
            self._desk.largest = max(SMALLEST, self._largest_lost // 2)

    # ---- the loop

    async def run(self) -> None:
        """Send until the session ends (UplinkError)."""
        try:
            while True:
                nap = self._fill()
                if nap.for_more and await self._knock():
                    continue
                if self._idle_wanted and self._is_idle(nap):
                    self._idle.set()
                await self._rest(nap)
                self._look()
        finally:
            self._desk.holds.forget_probes()
            while self._items:
                self._items.popleft().landed(None)

    def _fill(self) -> Nap:
        """Send while there is room and the link may carry more; returns how to rest then."""
        while len(self._flying) < self.window:
            if self._items:
                self._send(self._items.popleft())
                continue
            if not self._taking or len(self._unconfirmed) >= self._pace.unconfirmed or self._desk.notices.full:
                break
            held = self._held()
            batch = self._store.take(backlog=self._share.admits(self._backlog), without=held)
            if batch is None:
                return Nap(min([self._pace.tick, *held.values()]), for_more=True, held=bool(held))
            self._desk.holds.probe(batch.stream)
            self._load(batch)
        return Nap(self._pace.tick)

    async def _knock(self) -> bool:
        """Nothing is left to ask a closed topic with: a dead letter of it asks again. Returns whether one does."""
        found = 0
        for epoch, stream, seq in self._desk.holds.knocking(self._clock.monotonic()):
            found += (await self._store.resend(epoch, stream, ((seq, seq),)))[0]
        return found > 0

    def _held(self) -> dict[str, float]:
        """The streams that must wait, and for how many seconds."""
        now = self._clock.monotonic()
        held = self._desk.holds.held(now)
        pause = self._desk.budget.wait(now)
        return held | {"t": max(pause, held.get("t", 0.0))} if pause else held

    async def _rest(self, nap: Nap) -> None:
        """Wait for a confirmation, for more in the store, for the end of the session, or for the nap's end."""
        self._wake.clear()
        waits: list[Awaitable[Any]] = [self._wake.wait()]
        if nap.for_more:
            waits.append(self._store.more())
        tasks: set[asyncio.Future[Any]] = {asyncio.ensure_future(wait) for wait in waits}
        try:
            await asyncio.wait(tasks | {self._session.closed}, timeout=nap.seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._session.closed.done():
            raise UplinkError(self._session.closed.result())

    def _look(self) -> None:
        """Notice a broker that has stalled, and batches that the IOC has not acknowledged in time."""
        now = self._clock.monotonic()
        before, self._unsent = self._unsent, self._session.unsent
        if self._unsent < before:
            self._progress = now  # a slow line takes time
        if self._flying and now - self._progress > self._pace.stall:
            raise UplinkError(
                f"The broker has left a message unanswered for {self._pace.stall:.0f} s. Probably it is overloaded, or "
                "the connection is dead. The agent connects again."
            )
        if now - self._looked < self._pace.tick:
            return
        self._looked = now
        wall = self._clock.wall() if self._clock.state != UNSYNCED else None
        self._desk.tell(*self._desk.budget.look(now, wall))
        for stream in STREAMS:
            self._send_again(stream, now - self._pace.confirm_within)

    def _send_again(self, stream: str, before: float) -> None:
        """Release what was sent before that time, and confirmed by the broker, but not by the IOC."""
        late = [
            key
            for key, flight in self._unconfirmed.items()
            if key[1] == stream and not flight.left and flight.sent < before
        ]
        if late:
            self._desk.counters.overdue += len(late)
            for key in late:
                del self._unconfirmed[key]
            self._store.release(late)

    # ---- one batch

    def _load(self, batch: Batch) -> None:
        """Turn a batch into messages. One that no packet can carry becomes a dead letter."""
        topic = self._topics.of(batch)
        room = min(self._session.room(topic, self._labels), self._desk.largest)
        try:
            payloads = self._split(self._topics.gateway, batch, room)
        except UplinkError:
            self._desk.counters.undeliverable += 1
            self._dead_letter(batch, _TOO_LARGE)
            self._desk.holds.skipped(batch.stream)
            return
        flight = Flight(batch, len(payloads), self._clock.monotonic())
        if self._by_ioc:
            self._unconfirmed[batch.key] = flight
        if batch.historical:
            self._backlog += 1
        for payload in payloads:
            landed = partial(self._landed, flight)
            self._items.append(Item(topic, payload, retain=False, labels=self._labels, landed=landed))

    def _send(self, item: Item) -> None:
        if not self._flying:
            self._progress = self._clock.monotonic()
        future = self._session.publish(item.topic, item.payload, retain=item.retain, labels=item.labels)
        self._flying[future] = item
        self._desk.counters.published += not item.retain
        future.add_done_callback(self._answered)

    def _answered(self, future: asyncio.Future[int]) -> None:
        oldest = next(iter(self._flying))
        if future is oldest:  # a broker answers in order (MQTT 5 section 4.6): one must not be left out
            self._progress = self._clock.monotonic()
        item = self._flying.pop(future)
        self._wake.set()
        if future.cancelled() or future.exception():
            self._largest_lost = max(self._largest_lost, len(item.payload))
            item.landed(None)
        else:
            item.landed(future.result())

    def _landed(self, flight: Flight, code: int | None) -> None:
        """One message of a batch is confirmed, refused, or (None) lost with the connection."""
        counters = self._desk.counters
        if code is None:
            counters.lost += 1
            return
        counters.confirmed += code == SUCCESS
        counters.refused += code >= FAILURES
        counters.unheard += SUCCESS < code < FAILURES
        flight.worst = max(flight.worst, code)
        flight.left -= 1
        if not flight.left:
            if flight.batch.historical:
                self._backlog -= 1
                self._share.answered(self._clock.monotonic() - flight.sent)
            self._judge(flight.batch, flight.worst)

    def _judge(self, batch: Batch, code: int) -> None:
        """All messages of a batch are answered: free it, hold the stream, or make a dead letter of it."""
        if code == SUCCESS:
            self._worked(batch)
            return
        self._unconfirmed.pop(batch.key, None)
        topic = self._topics.of(batch)
        if code == UNHEARD:
            text = f"The broker takes messages on {topic}, but nobody has subscribed to them."
            self._hold(batch, NOBODY_LISTENS, text)
            return
        text = f"The broker refuses messages on {topic}: {refusals.reason(code)}."
        match refusals.meaning(code):
            case refusals.LATER:
                self._hold(batch, REFUSED, text)
            case refusals.NEVER:
                self._dead_letter(batch, refusals.reason(code))
                self._desk.holds.skipped(batch.stream)
            case refusals.CLOSED:
                self._hold(batch, NOT_AUTHORISED, text)
                self._dead_letter(batch, _CLOSED)

    def _worked(self, batch: Batch) -> None:
        """The broker has it. Where a topic was closed, what was refused meanwhile comes again."""
        epoch, stream, seq = batch.key
        if self._desk.holds.is_closed(stream):
            self._desk.counters.revived += self._store.unpark(stream)
        self._desk.tell(*self._desk.holds.worked(stream))
        if not self._by_ioc:
            self._desk.counters.settled += self._store.settle(epoch, stream, ((seq, seq),))

    def _hold(self, batch: Batch, code: str, text: str) -> None:
        """Give the batch back (unless it is parked), and let its stream wait."""
        if code != NOT_AUTHORISED:
            self._store.release([batch.key])
        self._desk.tell(*self._desk.holds.failed(batch.stream, code, text, self._clock.monotonic()))

    def _dead_letter(self, batch: Batch, why: str) -> None:
        """Keep a batch on disk without sending it again, and tell which one.

        Not of an event that is itself such a message, nor of one whose topic is closed: nobody could hear of it.
        """
        self._store.park(batch.key)
        self._desk.counters.dead_letters += 1
        if why == _CLOSED and not self._desk.holds.letter(batch.key):
            return  # it was told before
        if batch.stream == "e" and (why == _CLOSED or msgpack.unpackb(batch.data).get("code") == DEAD_LETTER):
            return
        self._desk.dead(batch.key, why, self._clock.monotonic())


def _fulfil(future: asyncio.Future[int], code: int | None) -> None:
    with contextlib.suppress(asyncio.InvalidStateError):
        if code is None:
            future.set_exception(UplinkError("The connection ended before the message was confirmed."))
            future.exception()
        else:
            future.set_result(code)
