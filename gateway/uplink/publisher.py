"""Keeps the uplink alive: connects, explains itself, pumps the store, listens to the IOC."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from gateway.clock import UNSYNCED, Clock
from gateway.errors import UplinkError
from gateway.log import logger
from gateway.model import Site
from gateway.uplink import bodies, down
from gateway.uplink.counters import Counters
from gateway.uplink.message import FAILURES, Incoming, Will
from gateway.uplink.mqtt import Session
from gateway.uplink.payload.decode import unpack_map
from gateway.uplink.pump import Desk, Pace, Pump
from gateway.uplink.topics import Topics

if TYPE_CHECKING:
    from gateway.store import Store

_ANCHOR_MOVED = 1000  # ms: the clock was set, not merely disciplined
_GOODBYE = 3.0
_TRIES = 3


class Publisher:
    """The uplink of one gateway. `health` gives what the rest of the agent adds to up/health."""

    def __init__(
        self,
        site: Site,
        store: Store,
        clock: Clock,
        health: Callable[[], Mapping[str, Any]],
        *,
        pace: Pace | None = None,
    ) -> None:
        self._site = site
        self._store = store
        self._clock = clock
        self._health = health
        self._pace = pace or Pace()
        self._topics = Topics(site.uplink.prefix, site.gateway)
        self._desk = Desk()
        self._session: Session | None = None
        self._pump: Pump | None = None
        self._connection = 0
        self._explained = False
        self._status_refusals = 0
        self._anchor: int | None = None
        self._complained: set[str] = set()
        self._told: dict[str, bytes] = {}
        self._rebirths: list[tuple[str, str] | None] = []
        self._nudge = asyncio.Event()
        self._hurry = asyncio.Event()
        self._attempted = asyncio.Event()
        self._stopping = asyncio.Event()
        self._finished = asyncio.Event()
        self.trouble = ""
        """Why there is no connection now; empty when there is one."""

    @property
    def counters(self) -> Counters:
        return self._desk.counters

    @property
    def online(self) -> bool:
        return self._session is not None

    # ---- life

    async def run(self) -> None:
        """Keep connected and publish until `stop`."""
        events = asyncio.ensure_future(self._store_events())
        try:
            await self._prepare()
            delay = self._pace.retry_first
            while not self._stopping.is_set():
                began = self._clock.monotonic()
                session = await self._until_stop(self._connect())
                if session:
                    await self._serve(session)
                    if self._clock.monotonic() - began >= self._pace.steady:
                        delay = self._pace.retry_first
                self._attempted.set()
                with contextlib.suppress(TimeoutError):
                    await self._until_stop(asyncio.wait_for(self._hurry.wait(), random.uniform(0, delay)))
                self._hurry.clear()
                delay = min(delay * self._pace.retry_growth, self._pace.retry_last)
        finally:
            events.cancel()
            self._finished.set()

    async def stop(self, grace: float) -> None:
        """Send what is left, wait up to `grace` seconds for its confirmation, say goodbye, disconnect."""
        self._store.flush()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._send_the_rest(), grace)
        self._stopping.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._finished.wait(), 2 * _GOODBYE)

    async def _send_the_rest(self) -> None:
        """Return when all is confirmed, or cannot be: without a connection one more attempt is made at once."""
        if self._session is None:
            self._attempted.clear()
            self._hurry.set()
            await self._attempted.wait()
        if self._session and self._pump:
            await first_of(self._pump.idle(), ended(self._session))

    async def _until_stop(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run it, but not beyond `stop`; None when it was cut short."""
        task = asyncio.ensure_future(coroutine)
        stop = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            if not task.done():
                task.cancel()
            await asyncio.gather(task, stop, return_exceptions=True)
        return None if task.cancelled() else task.result()

    async def _prepare(self) -> None:
        """What must be known before the first message."""
        devices = [device for bus in self._site.buses for device in bus.devices]
        gateway = self._site.gateway
        await asyncio.gather(*(self._store.remember_birth(d.name, d.cfg, bodies.birth(gateway, d)) for d in devices))

    async def _store_events(self) -> None:
        while True:
            await self._store.append_message("e", await self._desk.events.get())

    # ---- one connection

    async def _connect(self) -> Session | None:
        """Try the brokers in order, once each."""
        for url in self._site.uplink.brokers:
            self._connection += 1
            will = Will(self._topics("up/status"), bodies.dump(self._status(online=False)))
            try:
                session = await Session.open(url, self._site.uplink, self._site.gateway, will)
            except UplinkError as error:
                self._desk.counters.failures += 1
                self._complain(str(error))
                continue
            self._desk.counters.connections += 1
            self.trouble = ""
            self._complained.clear()
            logger.info("connected", broker=url, mqtt=session.version)
            return session
        return None

    def _complain(self, text: str) -> None:
        """Log it, once per outage."""
        if text not in self._complained:
            self._complained.add(text)
            logger.warning("uplink", trouble=text)
        self.trouble = text

    async def _serve(self, session: Session) -> None:
        """Work over one session until it ends, or until `stop`."""
        self._store.release()
        self._told.clear()
        self._session = session
        self._pump = pump = Pump(session, self._store, self._clock, site=self._site, desk=self._desk, pace=self._pace)
        self._attempted.set()
        discarded = self._desk.counters.discarded
        try:
            await self._until_stop(first_of(pump.run(), self._listen(session, pump), self._speak(session, pump)))
            if self._stopping.is_set():
                await self._farewell(session)
        except UplinkError as error:
            self._complain(str(error))
        finally:
            self._session = self._pump = None
            self._desk.counters.discarded = discarded + session.discarded
            await session.close()
            pump.learn()
            self._store.release()

    async def _farewell(self, session: Session) -> None:
        """The last health, and the status that the will would have given."""
        self._say_health(session)
        body = bodies.dump(self._status(online=False, session=session))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(session.publish(self._topics("up/status"), body, retain=True), _GOODBYE)

    # ---- what the gateway says about itself

    async def _speak(self, session: Session, pump: Pump) -> None:
        """First the status and what explains the readings, then whatever has changed, looked for now and then."""
        self._tell_changes(pump)
        if not (self._explained and session.session_present):
            await self._give_birth(pump, None)
            self._explained = True
        pump.start()
        health_due = self._clock.monotonic()
        while True:
            if self._clock.monotonic() >= health_due:
                health_due += self._site.uplink.health_every
                self._say_health(session)
            self._tell_changes(pump)
            while self._rebirths:
                await self._give_birth(pump, self._rebirths.pop(0))
            await self._bury(pump)
            self._nudge.clear()
            with contextlib.suppress(TimeoutError):
                rest = min(self._pace.speak, max(0.0, health_due - self._clock.monotonic()))
                await asyncio.wait_for(self._nudge.wait(), rest)

    async def _give_birth(self, pump: Pump, only: tuple[str, str] | None) -> None:
        """Publish the births of all devices, or one; also those that only the backlog needs."""
        said = []
        for device, cfg, body in await self._store.births():
            if only in (None, (device, cfg)):
                said.append((device, pump.say(self._topics("up/birth", device, cfg), bodies.dump(body))))
        for device, future in said:
            code = await future
            if code >= FAILURES:
                logger.warning("birth refused", device=device, code=code)

    async def _bury(self, pump: Pump) -> None:
        """Clear the retained births that neither the devices nor the backlog need."""
        for device, cfg in self._store.stale_births():
            await pump.say(self._topics("up/birth", device, cfg), b"")
            await self._store.forget_birth(device, cfg)

    def _tell_changes(self, pump: Pump) -> None:
        """Say again what differs from what this connection was told."""
        status = self._status(online=True, session=self._session)
        self._tell(pump, "up/status", bodies.dump(status | {"ts": 0}), bodies.dump(status))
        epochs = bodies.dump(bodies.epochs(self._site.gateway, self._store.epoch, self._store.earlier_epochs()))
        self._tell(pump, "up/epochs", epochs, epochs)
        anchor = self._anchor_of_boot()
        if anchor is not None:
            body = bodies.dump(bodies.clock(self._site.gateway, self._clock.boot, anchor))
            self._tell(pump, "up/clock", body, body)

    def _tell(self, pump: Pump, topic: str, essence: bytes, body: bytes) -> None:
        if self._told.get(topic) != essence:
            self._told[topic] = essence
            pump.say(self._topics(topic), body)

    def _anchor_of_boot(self) -> int | None:
        """Wall minus monotonic time, once the clock is trusted; it stays while the clock is merely disciplined."""
        if self._clock.state != UNSYNCED:
            anchor = self._clock.anchor()
            if self._anchor is None or abs(self._anchor - anchor) > _ANCHOR_MOVED:
                self._anchor = anchor
        return self._anchor

    def _status(self, *, online: bool, session: Session | None = None) -> dict[str, Any]:
        uplink = self._site.uplink
        mqtt = {
            "version": session.version if session else "",
            "refusals_visible": session.sees_refusals if session else None,
            "window": self._pump.window if self._pump else uplink.window,
            "confirm": uplink.confirm,
        }
        return bodies.status(
            self._site,
            online=online,
            conn=(self._store.epoch, self._connection),
            ts=self._now(),
            boot=self._clock.boot,
            clock=self._clock.state,
            mqtt=mqtt,
        )

    def _now(self) -> int:
        return self._clock.anchor() + self._clock.mono_ms()

    def _say_health(self, session: Session) -> None:
        """QoS 0: a health that comes late is worth nothing."""
        body = bodies.health(self._site.gateway, self._now(), self._desk.counters, self._store.stats(), self._health())
        session.publish(self._topics("up/health"), bodies.dump(body), qos=0)

    # ---- what the IOC says

    async def _listen(self, session: Session, pump: Pump) -> None:
        for name in await session.subscribe(*map(self._topics, ("dn/ack", "dn/resend", "dn/rebirth"))):
            logger.warning("subscription refused", topic=name)
        await self._watch_own_status(session)
        async for message in session.messages():
            try:
                await self._hear(message, pump)
            except ValueError as error:
                self._desk.counters.malformed += 1
                logger.debug("malformed", topic=message.topic, error=str(error))

    async def _watch_own_status(self, session: Session) -> None:
        """Ask to see when somebody declares this gateway dead. Some brokers hang up on what they do not allow."""
        if self._status_refusals < _TRIES:
            self._status_refusals += 1
            if not await session.subscribe(self._topics("up/status")):
                self._status_refusals = 0

    async def _hear(self, message: Incoming, pump: Pump) -> None:
        counters = self._desk.counters
        match self._topics.tail(message.topic):
            case "dn/ack":
                ack = down.told(message.payload)
                counters.acks += 1
                known = self._store.settle(ack.epoch, ack.stream, ack.ranges)
                counters.settled += known
                counters.unknown += ack.total - known
                pump.acknowledged(ack.epoch, ack.stream, ack.ranges)
            case "dn/resend":
                wanted = down.told(message.payload)
                found, _ = await self._store.resend(wanted.epoch, wanted.stream, wanted.ranges)
                counters.resends += found
                pump.wake()
            case "dn/rebirth":
                self._rebirths.append(down.rebirth(message.payload))
                self._nudge.set()
            case "up/status" if message.payload and unpack_map(message.payload).get("online") is False:
                # Another connection's will came late: nobody may believe it.
                self._told.pop("up/status", None)
                self._nudge.set()


async def ended(session: Session) -> None:
    """Return when the session has ended."""
    await asyncio.wait([session.closed])


async def first_of(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run them side by side until the first ends; its error is raised, the others are cancelled."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    errors = [error for task in tasks if not task.cancelled() and (error := task.exception())]
    for error in sorted(errors, key=lambda error: isinstance(error, UplinkError)):  # a bug comes first
        raise error
