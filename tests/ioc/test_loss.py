"""A broker that loses what it has acknowledged, between a real gateway's uplink and the IOC's receiver."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.ioc.gaps import Tally
from gateway.ioc.ledger import Ledger
from gateway.ioc.receiver import Receiver
from gateway.model import Uplink
from gateway.uplink.mqtt import Session

BATCHES = 40


class Centre:
    """The IOC with a persistent session: its books survive, its clock is turned by hand."""

    def __init__(self, url: str, **options: Any) -> None:
        self.url, self.options = url, options
        self.now, self.values, self.ledger = 1000.0, list[float](), Ledger()
        self.receiver: Receiver | None = None
        self.session: Session | None = None
        self.task: asyncio.Task[None] | None = None

    async def come(self) -> None:
        self.session = await Session.open(self.url, Uplink((self.url,)), "ioc")
        self.receiver = Receiver(self.session, now=lambda: self.now, ledger=self.ledger, **self.options)
        await self.receiver.subscribe()
        self.task = asyncio.create_task(self._receive(self.receiver))

    async def _receive(self, receiver: Receiver) -> None:
        async for arrival in receiver.arrivals():
            if arrival.message and arrival.verdict:
                self.values += [reading.value for reading in arrival.message.readings if reading.point == "voltage_l1"]

    async def go(self) -> None:
        """Leave; the broker keeps what comes meanwhile."""
        if self.task and self.session:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
            await self.session.close()

    async def wait(self, seconds: float) -> None:
        """Let time pass as the receiver sees it."""
        for _ in range(int(seconds // 5)):
            self.now += 5
            await self.receiver.look()

    def tally(self, epoch: str) -> Tally:
        return next(t for t in self.receiver.gaps.tallies() if (t.epoch, t.stream) == (epoch, "t"))


@pytest.fixture
async def centre(broker: str) -> AsyncIterator[Any]:
    made = []

    def make(**options: Any) -> Centre:
        made.append(Centre(broker, **options))
        return made[-1]

    yield make
    for one in made:
        with contextlib.suppress(Exception):
            await one.go()


async def lose(agent: Any, ioc: Centre, mosquitto: Any, until: Any) -> None:
    """While the IOC is away the broker confirms batches for it, and then forgets them."""
    await ioc.come()
    await agent.start()
    await agent.read(0.0)
    await until(lambda: ioc.values == [0.0], "the first value")
    await ioc.go()
    for number in range(1, BATCHES + 1):
        await agent.read(float(number))
    await until(lambda: agent.publisher.counters.confirmed >= BATCHES + 1, "the broker's word for every batch")
    mosquitto.kill()
    mosquitto.start()
    await ioc.come()
    await agent.read(BATCHES + 1.0)
    await until(lambda: BATCHES + 1.0 in ioc.values, "the value after the broker's end")


async def test_what_the_broker_lost_comes_back_when_the_gateway_keeps_it(
    gateway: Any, centre: Any, mosquitto: Any, until: Any
) -> None:
    agent, ioc = gateway(keep_acked=10_000_000), centre(ask=True)
    await lose(agent, ioc, mosquitto, until)
    assert ioc.values == [0.0, BATCHES + 1.0]
    await ioc.wait(40)
    await until(lambda: len(ioc.values) == BATCHES + 2, "everything to come back")
    assert sorted(ioc.values) == [float(number) for number in range(BATCHES + 2)]
    assert ioc.tally(agent.store.epoch).complete


async def test_what_the_gateway_has_no_more_is_told_lost(gateway: Any, centre: Any, mosquitto: Any, until: Any) -> None:
    agent, ioc = gateway(), centre(ask=True)
    await lose(agent, ioc, mosquitto, until)
    await ioc.wait(40)
    await until(lambda: ioc.tally(agent.store.epoch).lost, "the answer")
    tally = ioc.tally(agent.store.epoch)
    assert tally.lost == ((2, BATCHES + 1),)
    assert (tally.on_its_way, tally.unexplained) == ((), ())
    assert ioc.values == [0.0, BATCHES + 1.0]


async def test_with_the_iocs_own_word_nothing_is_lost(gateway: Any, centre: Any, mosquitto: Any, until: Any) -> None:
    agent, ioc = gateway(confirm="ioc"), centre(ack=True)
    await lose(agent, ioc, mosquitto, until)
    await until(lambda: len(set(ioc.values)) == BATCHES + 2, "everything to come")
    assert len(ioc.values) == BATCHES + 2
    await until(lambda: agent.store.stats()["pending"] == 0, "every batch to be freed")
    assert ioc.tally(agent.store.epoch).complete
