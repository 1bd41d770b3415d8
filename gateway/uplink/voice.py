"""What the gateway says about itself: status, births, epochs, clock, health."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from gateway.clock import UNSYNCED, Clock
from gateway.log import logger
from gateway.model import Site, event
from gateway.store.capacity import hours, stored_per_second
from gateway.uplink import bodies
from gateway.uplink.desk import Desk, Pace
from gateway.uplink.message import FAILURES, TOO_LARGE, Will
from gateway.uplink.mqtt import Session
from gateway.uplink.pump import Pump
from gateway.uplink.topics import Topics
from gateway.uplink.waiting import rest

if TYPE_CHECKING:
    from gateway.store import Store

_ANCHOR_MOVED = 1000  # ms: the clock was set, not merely disciplined
_GOODBYE = 3.0
_REBIRTHS = 64
"""So many single births can be asked for at once; more are the same as all."""

Birth = tuple[str, str]
"""Device and cfg."""


class Voice:
    """Speaks for the gateway, over one connection after the other. `connection` counts the attempts."""

    def __init__(
        self,
        site: Site,
        store: Store,
        clock: Clock,
        health: Callable[[], Mapping[str, Any]],
        *,
        desk: Desk,
        pace: Pace,
    ) -> None:
        self._site, self._store, self._clock, self._health = site, store, clock, health
        self._desk, self._pace = desk, pace
        self._topics = Topics(site.uplink.prefix, site.gateway)
        self.connection = 0
        self.heard = False
        """Whether a broker has taken something that this run has said."""
        self._explained = False
        self._anchor: int | None = None
        self._told: dict[str, bytes] = {}
        self._rebirths: set[Birth | None] = set()
        self._too_large: set[str] = set()
        self._nudge = asyncio.Event()

    # ---- what others ask for

    def will(self) -> Will:
        """What the broker says when this connection ends without a goodbye."""
        return Will(self._topics("up/status"), bodies.dump(self._status(online=False)))

    def contradict(self) -> None:
        """Somebody has declared this gateway dead: another connection's will came late, and nobody may believe it."""
        self._told.pop("up/status", None)
        self._nudge.set()

    def rebirth(self, only: Birth | None) -> None:
        """Give a birth again, or (None) all of them: soon, and the same one once however often it is asked for."""
        self._rebirths.add(only if len(self._rebirths) < _REBIRTHS else None)
        self._nudge.set()

    # ---- one connection

    async def speak(self, session: Session, pump: Pump) -> None:
        """First the status and what explains the readings, then whatever has changed, looked for now and then."""
        self._told.clear()
        self._tell_changes(session, pump)
        if not (self._explained and session.session_present):
            await self._give_birth(pump, {None})
            self._explained = True
        pump.start()
        health_due = births_due = self._clock.monotonic()
        while True:
            now = self._clock.monotonic()
            if now >= health_due:
                health_due += self._site.uplink.health_every
                self.say_health(session)
            self._tell_changes(session, pump)
            if self._rebirths and now >= births_due:
                births_due = now + self._pace.speak
                wanted, self._rebirths = self._rebirths, set()
                await self._give_birth(pump, wanted)
            await self._bury(pump)
            await self._nap(min(self._pace.speak, max(0.0, health_due - self._clock.monotonic())))

    async def _nap(self, seconds: float) -> None:
        """Rest, or until there is something to say. A flood of questions does not make the gateway talk faster."""
        self._nudge.clear()
        await rest(self._nudge, seconds)

    async def farewell(self, session: Session, pump: Pump) -> None:
        """The last health, and the status that the will would have given."""
        self.say_health(session)
        body = bodies.dump(self._status(online=False, session=session, window=pump.window))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE):
                await session.publish(self._topics("up/status"), body, retain=True)

    def say_health(self, session: Session) -> None:
        """QoS 0: a health that comes late is worth nothing."""
        budget, holds = self._desk.budget, self._desk.holds
        uplink: dict[str, Any] = asdict(self._desk.counters) | {"traffic": budget.total}
        uplink["untold"] = self._desk.notices.untold
        uplink["held"] = {stream: hold.code for stream, hold in holds.streams.items()}
        if budget.capped:
            uplink["budget"] = budget.figures(self._clock.monotonic())
        store = self._store.stats()
        left = hours(self._site.store, stored_per_second(self._site), store["used_bytes"])
        store["hours_left"] = None if left is None else round(left, 1)
        body = bodies.health(self._site.gateway, self._now(), uplink, store, self._health())
        if session.publish(self._topics("up/health"), bodies.dump(body), qos=0).result() == TOO_LARGE:
            self._tell_too_large("the health of this gateway")

    # ---- births

    async def _give_birth(self, pump: Pump, wanted: set[Birth | None]) -> None:
        """Publish the births that are wanted; also those that only the backlog needs."""
        said = []
        for device, cfg, body in await self._store.births():
            if None in wanted or (device, cfg) in wanted:
                said.append((device, pump.say(self._topics("up/birth", device, cfg), bodies.dump(body))))
        for device, future in said:
            code = await future
            if code == TOO_LARGE:
                self._tell_too_large("the birth of this device: the IOC cannot know the units of its readings", device)
            elif code >= FAILURES:
                logger.warning("birth refused", device=device, code=code)

    def _tell_too_large(self, what: str, device: str = "") -> None:
        """Say it once: sent, it would end every connection."""
        body = event(
            "too-large",
            f"The broker takes no packet as large as {what}. It is not sent.",
            severity="error",
            device=device,
            cause="The broker's largest packet is set to a small value.",
            advice="Let the broker's administrator raise it to at least 64 KiB.",
        )
        if body["id"] not in self._too_large:
            self._too_large.add(body["id"])
            self._desk.tell(body)

    async def _bury(self, pump: Pump) -> None:
        """Clear the retained births that neither the devices nor the backlog need."""
        for device, cfg in self._store.stale_births():
            await pump.say(self._topics("up/birth", device, cfg), b"")
            await self._store.forget_birth(device, cfg)

    # ---- status, epochs, clock

    def _tell_changes(self, session: Session, pump: Pump) -> None:
        """Say again what differs from what this connection was told."""
        status = self._status(online=True, session=session, window=pump.window)
        self._tell(pump, "up/status", bodies.dump(status | {"ts": 0}), bodies.dump(status))
        epochs = bodies.dump(bodies.epochs(self._site.gateway, self._store.epoch, self._store.earlier_epochs()))
        self._tell(pump, "up/epochs", epochs, epochs)
        anchor = self._anchor_of_boot()
        if anchor is not None:
            body = bodies.dump(bodies.clock(self._site.gateway, self._clock.boot, anchor, self._store.anchors()))
            self._tell(pump, "up/clock", body, body)

    def _tell(self, pump: Pump, topic: str, essence: bytes, body: bytes) -> None:
        if self._told.get(topic) != essence:
            self._told[topic] = essence
            pump.say(self._topics(topic), body).add_done_callback(self._was_heard)

    def _was_heard(self, answer: asyncio.Future[int]) -> None:
        self.heard |= not answer.cancelled() and not answer.exception() and answer.result() < FAILURES

    def _anchor_of_boot(self) -> int | None:
        """Wall minus monotonic time, once the clock is trusted; it stays while the clock is merely disciplined."""
        if self._clock.state != UNSYNCED:
            anchor = self._clock.anchor()
            if self._anchor is None or abs(self._anchor - anchor) > _ANCHOR_MOVED:
                self._anchor = anchor
        return self._anchor

    def _status(self, *, online: bool, session: Session | None = None, window: int | None = None) -> dict[str, Any]:
        uplink = self._site.uplink
        mqtt = {
            "version": session.version if session else "",
            "refusals_visible": session.sees_refusals if session else None,
            "window": uplink.window if window is None else window,
            "confirm": uplink.confirm,
        }
        return bodies.status(
            self._site,
            online=online,
            conn=(self._store.epoch, self.connection),
            ts=self._now(),
            boot=self._clock.boot,
            clock=self._clock.state,
            mqtt=mqtt,
        )

    def _now(self) -> int:
        return self._clock.anchor() + self._clock.mono_ms()
