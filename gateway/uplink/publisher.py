"""Keeps the uplink alive: connects, explains itself, pumps the store, listens to the IOC."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from math import inf
from typing import TYPE_CHECKING, Any

from gateway import certificates
from gateway.clock import UNSYNCED, Clock
from gateway.errors import UplinkError
from gateway.log import logger
from gateway.model import Site
from gateway.uplink import bodies
from gateway.uplink.budget import Budget
from gateway.uplink.counters import Counters
from gateway.uplink.desk import Desk, Pace
from gateway.uplink.expiry import Expiry
from gateway.uplink.listener import Listener
from gateway.uplink.mqtt import Session
from gateway.uplink.names import Names, Way
from gateway.uplink.pump import Pump
from gateway.uplink.retry import Retry
from gateway.uplink.voice import Voice
from gateway.uplink.waiting import rest

if TYPE_CHECKING:
    from gateway.store import Store

_GOODBYE = 3.0
_COMPLAINTS = 16
_STATE = "uplink"


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
        names: Names | None = None,
    ) -> None:
        self._site, self._store, self._clock = site, store, clock
        self._pace = pace = pace or Pace()
        budget = Budget(site.uplink.max_per_second, site.uplink.max_per_day)
        self._desk = Desk(budget=budget)
        self._way = Way(names or Names(), lambda size: budget.spend(size, clock.monotonic()), clock)
        self._voice = Voice(site, store, clock, health, desk=self._desk, pace=pace)
        self._listener = Listener(site, store, clock, desk=self._desk, voice=self._voice, contested=self._contested)
        self._retry = Retry(pace.retry_first, pace.retry_last, pace.steady, clock.monotonic())
        self._expiry = Expiry()
        self._session: Session | None = None
        self._pump: Pump | None = None
        self._connected = inf
        self._blamed = False
        self._complained: set[str] = set()
        self._telling: dict[str, Any] | None = None
        self._remembered: Mapping[str, Any] = {}
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
        beside: list[asyncio.Task[None]] = []
        try:
            await self._prepare()
            async with asyncio.TaskGroup() as group:
                beside = [group.create_task(part) for part in (self._store_events(), self._watch())]
                await self._keep_connected()
                for task in beside:
                    task.cancel()
        finally:
            await self._write_down()
            self._finished.set()

    async def _keep_connected(self) -> None:
        while not self._stopping.is_set():
            session = await self._until_stop(self._connect())
            if session:
                self._connected = self._clock.monotonic()
                await self._serve(session)
                self._count_end(session)
            self._attempted.set()
            await self._until_stop(rest(self._hurry, self._retry.delay(self._clock.monotonic())))
            self._hurry.clear()

    def _count_end(self, session: Session) -> None:
        began, self._connected = self._connected, inf
        self._desk.tell(*self._retry.ended(began, self._clock.monotonic()))
        self._blamed = False
        if session.taken_over:
            self._contested()

    def _contested(self) -> None:
        """Another client has this gateway's id: seen at the end of a connection, or on the next one."""
        if not self._blamed:
            self._blamed = True
            self.counters.takeovers += 1
            self._desk.tell(*self._retry.taken_over(self._clock.monotonic()))

    async def stop(self, grace: float) -> None:
        """Send what is left, wait up to `grace` seconds for its confirmation, say goodbye, disconnect."""
        self._store.flush()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._send_the_rest()
        self._stopping.set()
        await rest(self._finished, 2 * _GOODBYE)

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
        known = await self._store.load_state(_STATE)
        with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):  # nothing yet, or flash that forgot
            self._way.names.restore(known["names"])
            self._desk.budget.restore(known["budget"], self._clock.boot, self._clock.monotonic())
        self._remembered = self._way.names.good
        devices = [device for bus in self._site.buses for device in bus.devices]
        gateway = self._site.gateway
        await asyncio.gather(*(self._store.remember_birth(d.name, d.cfg, bodies.birth(gateway, d)) for d in devices))

    # ---- beside the connection

    async def _store_events(self) -> None:
        """Bring the uplink's own events into the store, as fast as it takes them."""
        notices, news = self._desk.notices, self._desk.news
        while True:
            news.clear()
            while body := notices.due(self._clock.monotonic()):
                self._telling = body
                await self._store.append_message("e", body)
                self._telling = None
            await rest(news, notices.rest(self._clock.monotonic()))

    async def _watch(self) -> None:
        """Look after what changes slowly."""
        while True:
            await self._look_at_certificates()
            self._desk.tell(*self._retry.lasted(self._connected, self._clock.monotonic()))
            if self._desk.budget.unsaved(self._clock.monotonic()) or self._remembered != self._way.names.good:
                await self._remember()
            await asyncio.sleep(self._pace.watch)

    async def _look_at_certificates(self) -> None:
        """Warn before one expires. Without a date that can be trusted nothing is said."""
        if self._clock.state == UNSYNCED:
            return
        uplink, now = self._site.uplink, self._clock.wall()
        found = {
            certificates.BROKER: [self._session.certificate] if self._session and self._session.certificate else []
        }
        for whose, path in ((certificates.OWN, uplink.cert), (certificates.AUTHORITY, uplink.ca)):
            found[whose] = await asyncio.to_thread(certificates.in_file, path) if path else []
        for whose, validities in found.items():
            ends = certificates.soonest(validities, now)
            if ends is not None:
                self._desk.tell(*self._expiry.look(whose, ends, now))

    async def _remember(self) -> None:
        """Write down what a restart must know."""
        self._remembered = good = self._way.names.good
        budget = self._desk.budget.saved(self._clock.boot, self._clock.monotonic())
        await self._store.save_state(_STATE, {"names": good, "budget": budget})

    async def _write_down(self) -> None:
        """The end: nothing that is known only here may be forgotten. A store that is full is not waited for."""
        left = [self._telling] if self._telling else []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE):
                for body in [*left, *self._desk.notices.last()]:
                    await self._store.append_message("e", body)
                if self._desk.budget.capped or self._remembered != self._way.names.good:
                    await self._remember()

    # ---- one connection

    async def _connect(self) -> Session | None:
        """Try the brokers in order, once each."""
        for url in self._site.uplink.brokers:
            self._voice.connection += 1
            will = self._voice.will()
            try:
                session = await Session.open(url, self._site.uplink, self._site.gateway, will, way=self._way)
            except UplinkError as error:
                self.counters.failures += 1
                self._complain(str(error))
                continue
            self.counters.connections += 1
            self.trouble = ""
            self._complained.clear()
            logger.info("connected", broker=url, mqtt=session.version)
            return session
        return None

    def _complain(self, text: str) -> None:
        """Log it, once per outage."""
        if text not in self._complained:
            if len(self._complained) >= _COMPLAINTS:
                self._complained.clear()
            self._complained.add(text)
            logger.warning("uplink", trouble=text)
        self.trouble = text

    async def _serve(self, session: Session) -> None:
        """Work over one session until it ends, or until `stop`."""
        self._store.release()
        self._session = session
        self._pump = pump = Pump(session, self._store, self._clock, site=self._site, desk=self._desk, pace=self._pace)
        self._attempted.set()
        discarded = self.counters.discarded
        work = (pump.run(), self._listener.listen(session, pump), self._voice.speak(session, pump))
        try:
            await self._until_stop(first_of(*work))
            if self._stopping.is_set():
                await self._voice.farewell(session, pump)
        except UplinkError as error:
            self._complain(str(error))
        finally:
            self._session = self._pump = None
            self.counters.discarded = discarded + session.discarded
            await session.close()
            pump.learn()
            self._store.release()


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
