"""What the IOC says on `dn/*`, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from gateway.clock import Clock
from gateway.log import logger
from gateway.model import Site
from gateway.uplink import down
from gateway.uplink.desk import Desk
from gateway.uplink.message import Incoming
from gateway.uplink.mqtt import Session
from gateway.uplink.payload.decode import unpack_map
from gateway.uplink.pump import Pump
from gateway.uplink.topics import Topics
from gateway.uplink.voice import Voice

if TYPE_CHECKING:
    from gateway.store import Store

_TRIES = 3


class Listener:
    """Listens over one connection after the other. `contested` is called when another gateway speaks under this id."""

    def __init__(
        self, site: Site, store: Store, clock: Clock, *, desk: Desk, voice: Voice, contested: Callable[[], None]
    ) -> None:
        self._store, self._clock, self._desk, self._voice = store, clock, desk, voice
        self._contested = contested
        self._topics = Topics(site.uplink.prefix, site.gateway)
        self._status_refusals = 0

    async def listen(self, session: Session, pump: Pump) -> None:
        """Subscribe, then act on each message. UplinkError when the session ends."""
        await self._watch_own_status(session)
        for name in await session.subscribe(*map(self._topics, ("dn/ack", "dn/resend", "dn/rebirth"))):
            logger.warning("subscription refused", topic=name)
        async for message in session.messages():
            try:
                await self._hear(message, pump)
            except ValueError as error:
                self._desk.counters.malformed += 1
                logger.debug("malformed", topic=message.topic, error=str(error))

    async def _watch_own_status(self, session: Session) -> None:
        """Ask for what the broker says about this gateway, before the gateway itself says anything.

        Some brokers hang up on what they do not allow.
        """
        if self._status_refusals < _TRIES:
            self._status_refusals += 1
            if not await session.subscribe(self._topics("up/status")):
                self._status_refusals = 0

    async def _hear(self, message: Incoming, pump: Pump) -> None:
        match self._topics.tail(message.topic):
            case "dn/ack":
                self._acknowledged(down.told(message.payload), pump)
            case "dn/resend":
                await self._resend(down.told(message.payload), pump)
            case "dn/rebirth":
                self._desk.counters.rebirths += 1
                self._voice.rebirth(down.rebirth(message.payload))
            case "up/status" if message.payload:
                self._see_status(unpack_map(message.payload), retained=message.retain)

    def _see_status(self, body: Mapping[str, Any], *, retained: bool) -> None:
        """Somebody declares this gateway dead, or alive as another one.

        Many brokers end a session that was taken over without a word: then only this tells that there is a rival. A
        status of an earlier run is none: the broker has retained it, or kept it for this session.
        """
        if body.get("online") is False:
            self._voice.contradict()
            return
        match body.get("conn"):
            case [str(epoch), _] if not self._store.knows(epoch) and (self._voice.heard or not retained):
                self._contested()

    def _acknowledged(self, ack: down.Told, pump: Pump) -> None:
        counters = self._desk.counters
        counters.acks += 1
        known = self._store.settle(ack.epoch, ack.stream, ack.ranges)
        counters.settled += known
        counters.unknown += ack.total - known
        pump.acknowledged(ack.epoch, ack.stream, ack.ranges)

    async def _resend(self, wanted: down.Told, pump: Pump) -> None:
        """Give again what is stored; say what is not."""
        counters = self._desk.counters
        found, missing = await self._store.resend(wanted.epoch, wanted.stream, wanted.ranges)
        counters.resends += found
        if missing:
            counters.missing += sum(last - first + 1 for first, last in missing)
            self._desk.missing(wanted.epoch, wanted.stream, missing, self._clock.monotonic())
        pump.wake()
