"""The IOC's end of the contract: subscribes, decodes, keeps the ledger, acknowledges, asks for what is missing.

It works on a session that somebody else has opened, and opens nothing itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, Protocol

from gateway.errors import UplinkError
from gateway.ioc.anchors import Anchors, Correction
from gateway.ioc.births import Births
from gateway.ioc.decode import Catalogue, Message, decode, unpack_map
from gateway.ioc.gaps import GRACE, Gaps
from gateway.ioc.ledger import Batches, Ledger, Verdict

ACK_EVERY = 0.2
"""Seconds: acknowledgements are gathered so long, because one message can name many batches."""
LOOK_EVERY = 5.0
"""Seconds between two looks for what is missing."""
_RANGES = 1000
_REFUSED = 0x80  # PUBACK, from here on
_DURABLE = {"telemetry", "event", "cmd"}
_NOT_STORED = "not-stored"  # code of the event that answers a dn/resend


def loop_time() -> float:
    """The monotonic time of the running loop, in seconds."""
    return asyncio.get_running_loop().time()


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

    `message` and `verdict` belong to the durable kinds; `body` is the whole body of the others. `corrections` come
    with a clock: batches that were handed over before, and whose times can be mended now.
    """

    kind: str
    gw: str
    body: Mapping[str, Any]
    message: Message | None = None
    verdict: Verdict = Verdict.NEW
    corrections: tuple[Correction, ...] = ()


@dataclass
class Receiver:
    """Receives from one gateway, or from all ("+"). What it has yielded and got back is acknowledged, if `ack`.

    Gaps and births that are missing are asked for, if `ask`. `now` is a monotonic clock in seconds.
    """

    session: Session
    prefix: str = "city"
    ack: bool = False
    ask: bool = False
    gateway: str = "+"
    now: Callable[[], float] = loop_time
    grace: float = GRACE
    ledger: Ledger = field(default_factory=Ledger)
    catalogue: Catalogue = field(default_factory=Catalogue)
    health: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Gateway -> the latest body of up/health."""
    status: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    malformed: int = 0
    refused: int = 0
    """Messages to gateways that the broker did not take."""

    def __post_init__(self) -> None:
        self.gaps = Gaps(self.ledger, asks=self.ask, grace=self.grace)
        self._births = Births(self.catalogue)
        self._anchors = Anchors()

    async def subscribe(self) -> list[str]:
        """Ask for everything that the gateways say; returns the filters that the broker refused."""
        return await self.session.subscribe(f"{self.prefix}/v1/{self.gateway}/up/#")

    async def arrivals(self) -> AsyncGenerator[Arrival, None]:
        """Everything that arrives, duplicates too (their verdict is false). Ends as the session's messages do.

        A durable message counts as committed when the next arrival is asked for.
        """
        self.gaps.deaf()
        speaking = asyncio.ensure_future(self._speak())
        try:
            async for incoming in self.session.messages():
                if speaking.done():
                    speaking.result()  # raises: who acknowledges nothing must not seem to go on
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
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)
            if self.ack:
                with contextlib.suppress(UplinkError):
                    await self.acknowledge()

    # ---- what the IOC says

    async def acknowledge(self) -> None:
        """Send `dn/ack` for what was committed since the last time."""
        for batches in self.ledger.acknowledgements():
            await self._name("dn/ack", batches)

    async def look(self) -> None:
        """Look for what is missing; ask for it, if `ask`."""
        questions, births = self.gaps.look(self.now()), self._births.look(self.now())
        for batches in questions:
            await self._name("dn/resend", batches)
        for gw, device, cfg in births if self.ask else ():
            await self._publish(gw, "dn/rebirth", {"device": device, "cfg": cfg})

    async def _speak(self) -> None:
        look_at = self.now() + LOOK_EVERY
        while True:
            await asyncio.sleep(ACK_EVERY)
            if self.ack:
                await self.acknowledge()
            if self.now() >= look_at:
                look_at = self.now() + LOOK_EVERY
                await self.look()

    async def _name(self, topic: str, batches: Batches) -> None:
        """Name batches to their gateway, so many ranges a message."""
        gw, epoch, stream, ranges = batches
        rest = iter(ranges)
        while some := list(islice(rest, _RANGES)):
            await self._publish(gw, topic, {"epoch": epoch, "stream": stream, "ranges": some})

    async def _publish(self, gw: str, topic: str, body: Mapping[str, Any]) -> None:
        payload = json.dumps(body, separators=(",", ":")).encode()
        self.refused += await self.session.publish(f"{self.prefix}/v1/{gw}/{topic}", payload) >= _REFUSED

    # ---- what the gateways say

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
        corrections: tuple[Correction, ...] = ()
        if kind == "birth":
            self.catalogue.learn(payload)
        elif kind == "health":
            self.health[gw] = body
        elif kind == "status":
            if not self.ledger.status(gw, body):
                return None
            self.status[gw] = body
        elif kind == "clock":
            corrections = self._correct(gw, body)
        elif kind == "epochs" and isinstance(body.get("epochs"), list):
            current = body.get("epoch")
            self.ledger.announce(gw, body["epochs"], current if isinstance(current, str) else "")
        return Arrival(kind, gw, body, corrections=corrections)

    def _parts(self, topic: str) -> tuple[bool, str, str]:
        """(is it below our prefix, gateway, what follows up/)."""
        root = f"{self.prefix}/v1/"
        gw, _, rest = topic.removeprefix(root).partition("/up/")
        return topic.startswith(root), gw, rest

    def _durable(self, kind: str, gw: str, message: Message) -> Arrival:
        if message.gw != gw:
            raise ValueError(f"a message of {gw} says that it is from {message.gw!r:.60}")
        message = self._anchors.corrected(message)
        verdict = self.ledger.record(message)
        self._births.need(message)
        data = message.body.get("data") if kind == "event" else None
        if isinstance(data, Mapping):
            self.ledger.drop(gw, data.get("dropped"))
            if message.body.get("code") == _NOT_STORED:
                self.ledger.lose(gw, data.get("missing"))
        return Arrival(kind, gw, message.body, message, verdict)

    def _correct(self, gw: str, body: Mapping[str, Any]) -> tuple[Correction, ...]:
        """Anchors have come: what they change of what was handed over."""
        anchors = self._anchors.learn(gw, body)
        changed = [(boot, anchor, self.ledger.correct(gw, boot)) for boot, anchor in anchors.items()]
        return tuple(Correction(gw, boot, anchor, batches) for boot, anchor, batches in changed if batches)
