"""The IOC's end of the contract: subscribes, decodes, keeps the ledger, acknowledges.

It works on a session that somebody else has opened, and opens nothing itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, Protocol

from gateway.errors import UplinkError
from gateway.ioc.decode import Catalogue, Message, decode, unpack_map
from gateway.ioc.ledger import Ledger, Verdict

ACK_EVERY = 0.2
"""Seconds: acknowledgements are gathered so long, because one message can name many batches."""
_RANGES = 1000
_DURABLE = {"telemetry", "event", "cmd"}


class Incoming(Protocol):
    """A message from the broker."""

    @property
    def topic(self) -> str: ...
    @property
    def payload(self) -> bytes: ...


class Session(Protocol):
    """What the receiver needs of a connection."""

    async def subscribe(self, *filters: str) -> list[str]: ...
    def messages(self) -> AsyncIterator[Incoming]: ...
    def publish(self, topic: str, payload: bytes) -> Awaitable[int]: ...


class Arrival(NamedTuple):
    """One message of a gateway. `kind` is the topic's word: telemetry, event, cmd, birth, status, health, ...

    `message` and `verdict` belong to the durable kinds; `body` is the whole body of the others.
    """

    kind: str
    gw: str
    body: Mapping[str, Any]
    message: Message | None = None
    verdict: Verdict = Verdict.NEW


@dataclass
class Receiver:
    """Receives from one gateway, or from all ("+"). What it has yielded and got back is acknowledged, if `ack`."""

    session: Session
    prefix: str = "city"
    ack: bool = False
    gateway: str = "+"
    ledger: Ledger = field(default_factory=Ledger)
    catalogue: Catalogue = field(default_factory=Catalogue)
    health: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Gateway -> the latest body of up/health."""
    status: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    malformed: int = 0

    async def subscribe(self) -> list[str]:
        """Ask for everything that the gateways say; returns the filters that the broker refused."""
        return await self.session.subscribe(f"{self.prefix}/v1/{self.gateway}/up/#")

    async def arrivals(self) -> AsyncGenerator[Arrival, None]:
        """Everything that arrives, duplicates too (their verdict is false). Ends as the session's messages do.

        A durable message counts as committed when the next arrival is asked for.
        """
        acknowledging = asyncio.ensure_future(self._acknowledge()) if self.ack else None
        try:
            async for incoming in self.session.messages():
                try:
                    arrival = self._read(incoming.topic, incoming.payload)
                except ValueError:
                    self.malformed += 1
                    continue
                if arrival:
                    yield arrival
                    if arrival.message:
                        self.ledger.committed(arrival.message)
        finally:
            if acknowledging:
                acknowledging.cancel()
                await asyncio.gather(acknowledging, return_exceptions=True)
                with contextlib.suppress(UplinkError):
                    await self.acknowledge()

    async def acknowledge(self) -> None:
        """Send `dn/ack` for what was committed since the last time."""
        for gw, epoch, stream, ranges in self.ledger.acknowledgements():
            rest = iter(ranges)
            while some := list(islice(rest, _RANGES)):
                body = json.dumps({"epoch": epoch, "stream": stream, "ranges": some}, separators=(",", ":"))
                await self.session.publish(f"{self.prefix}/v1/{gw}/dn/ack", body.encode())

    async def _acknowledge(self) -> None:
        while True:
            await asyncio.sleep(ACK_EVERY)
            await self.acknowledge()

    def _read(self, topic: str, payload: bytes) -> Arrival | None:
        """One message; None when it is none of a gateway's. ValueError when it does not follow the contract."""
        root, gw, rest = self._parts(topic)
        kind = rest.partition("/")[0]
        if not root or not kind or not payload:
            return None
        if kind in _DURABLE:
            return self._durable(kind, gw, decode(payload))
        body = unpack_map(payload)
        if body.get("gw") != gw:
            raise ValueError(f"a message on {topic} says that it is from {body.get('gw')!r:.60}")
        if kind == "birth":
            self.catalogue.learn(payload)
        elif kind == "health":
            self.health[gw] = body
        elif kind == "status":
            self.status[gw] = body
        elif kind == "epochs" and isinstance(body.get("epochs"), list):
            self.ledger.announce(gw, body["epochs"])
        return Arrival(kind, gw, body)

    def _parts(self, topic: str) -> tuple[bool, str, str]:
        """(is it below our prefix, gateway, what follows up/)."""
        root = f"{self.prefix}/v1/"
        gw, _, rest = topic.removeprefix(root).partition("/up/")
        return topic.startswith(root), gw, rest

    def _durable(self, kind: str, gw: str, message: Message) -> Arrival:
        if message.gw != gw:
            raise ValueError(f"a message of {gw} says that it is from {message.gw!r:.60}")
        verdict = self.ledger.record(message)
        if kind == "event":
            self._excuse(message)
        return Arrival(kind, gw, message.body, message, verdict)

    def _excuse(self, message: Message) -> None:
        """An event may name ranges that were dropped."""
        data = message.body.get("data")
        dropped = data.get("dropped") if isinstance(data, Mapping) else None
        for entry in dropped if isinstance(dropped, list) else ():
            match entry:
                case {"epoch": str(epoch), "stream": str(stream), "ranges": list(ranges)}:
                    self.ledger.excuse(message.gw, epoch, stream, filter(None, map(_pair, ranges)))


def _pair(item: object) -> tuple[int, int] | None:
    match item:
        case [int(first), int(last)] if 1 <= first <= last:
            return first, last
    return None
