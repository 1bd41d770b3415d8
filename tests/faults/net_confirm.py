"""N01-kill: what a broker loses that is killed with acknowledged messages, and what the IOC's own word is worth."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from catalogue import Outcome, Round, fault
from ledger import Ledger
from stage import Stage, stage

from gateway.errors import UplinkError
from gateway.ioc.receiver import Receiver
from gateway.model import Uplink
from gateway.uplink.message import Incoming
from gateway.uplink.mqtt import Session

OFFLINE = 20
"""Answers of each device while the IOC is away."""


@dataclass
class Tapped:
    """A session of the product's receiver; the ledger gets every message before the receiver does."""

    session: Session
    ledger: Ledger

    async def subscribe(self, *filters: str) -> list[str]:
        return await self.session.subscribe(*filters)

    def publish(self, topic: str, payload: bytes) -> asyncio.Future[int]:
        return self.session.publish(topic, payload)

    async def messages(self) -> AsyncIterator[Incoming]:
        async for message in self.session.messages():
            self.ledger.take(message.topic, message.payload)
            yield message


async def receive(s: Stage, *, acknowledge: bool) -> None:
    """The product's receiver with a persistent session; it comes back when the broker was away."""
    while True:
        with contextlib.suppress(UplinkError):
            session = await Session.open(s.broker.url, Uplink((s.broker.url,)), "receiver")
            receiver = Receiver(Tapped(session, s.ledger), ack=acknowledge)
            try:
                await receiver.subscribe()
                async for _ in receiver.arrivals():
                    pass
            finally:
                await session.close()
        await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def receiving(s: Stage, *, acknowledge: bool) -> AsyncIterator[None]:
    task = asyncio.create_task(receive(s, acknowledge=acknowledge))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def broker_dies(round_: Round, confirm: str) -> tuple[str, Outcome]:
    """Kill the broker while it holds what it has acknowledged for an IOC that is away. What that cost, in words."""
    slowest, read = 0.0, 0
    by_ioc = confirm == "ioc"
    folder = round_.folder / confirm
    async with stage(folder, every="100ms", uplink={"confirm": confirm}, store={"linger": "0.1s"}) as s:
        await s.ioc.stop()
        async with receiving(s, acknowledge=by_ioc):
            await s.start()
            await s.recovered()
        for _ in range(round_.times):
            before = s.field.given
            await s.polled(OFFLINE)
            await s.broker.kill()
            await s.broker.start()
            read += s.field.given - before
            async with receiving(s, acknowledge=by_ioc):
                slowest = max(slowest, await (s.recovered() if by_ioc else s.lively()))
        async with receiving(s, acknowledge=by_ioc):
            await s.recovered() if by_ioc else await s.lively()
            await s.stop()
            await (s.settled(30.0) if by_ioc else asyncio.sleep(1.0))
        cost = f'"{confirm}": {len(s.ledger.missing(s.owed()))} of {read} readings'
        return cost, await s.outcome(round_.times, recovered=slowest, patience=0.0)


@fault(
    "N01-kill",
    "broker killed while it holds acknowledged messages for an IOC that is away",
    'confirm = "ioc" loses nothing; confirm = "puback" loses what only the broker had (a limit of the broker)',
    times=5,
)
async def acknowledged_and_lost(round_: Round) -> Outcome:
    cost, trusting = await broker_dies(round_, "puback")
    cost_by_ioc, careful = await broker_dies(round_, "ioc")
    note = f"lost of what was read while the IOC was away: {cost}, {cost_by_ioc}"
    wrong = careful.wrong + trusting.wrong
    said = "; ".join(filter(None, [note, careful.note]))
    return Outcome(careful.injected, careful.lost, careful.duplicated, wrong, careful.recovered, said)
