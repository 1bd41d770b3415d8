"""N15: a broker comes back to 300 gateways that all have waited for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from catalogue import Outcome, Round, fault
from devices import now
from ioc import Ioc
from ledger import Key, Ledger
from processes import Mosquitto
from proxy import Proxy

from drivers.base import Sample
from gateway.clock import Clock
from gateway.model import Bus, Device, Readings, SerialPort, Site, StoreSettings, Uplink
from gateway.store import Store
from gateway.uplink.publisher import Publisher

GATEWAYS = 300
OUTAGE = 5.0
CFG = "a1b2c3d4"
CROWD = 0.1
"""Seconds: how many come within such a moment?"""
WITHIN = 120.0


@dataclass
class Crowd:
    """A ledger for each gateway, behind one subscriber."""

    ledgers: defaultdict[str, Ledger] = field(default_factory=lambda: defaultdict(Ledger))

    def take(self, topic: str, payload: bytes) -> Key | None:
        return self.ledgers[topic.split("/")[2]].take(topic, payload)


class Light:
    """A gateway without a field: its store, and the product's publisher with the product's own times."""

    def __init__(self, name: str, folder: Path, url: str) -> None:
        self.name, self.count = name, 0
        device = Device("device-1", "modbus", 1, (), birth={"points": [{"name": "count"}]}, cfg=CFG)
        settings = StoreSettings(str(folder / name), linger=0.2, commit_every=5.0)
        buses = (Bus("field", SerialPort("/dev/null"), "rtu", (device,)),)
        site = Site(name, "quarter", "system", Uplink((url,), health_every=3600.0), settings, buses, sha256="00" * 32)
        self.clock = Clock("system", boot="0123456789ab")
        self.store = Store(settings, self.clock)
        self.publisher = Publisher(site, self.store, self.clock, dict)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await self.store.open()
        self._tasks = [asyncio.create_task(self.store.run()), asyncio.create_task(self.publisher.run())]

    async def read(self) -> None:
        self.count += 1
        await self.store.append(Readings("device-1", CFG, self.clock.mono_ms(), [Sample("count", self.count)]))
        self.store.flush()

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.store.close()


@fault(
    "N15",
    f"the broker returns to {GATEWAYS} gateways that wait for it",
    "they come back spread over time, each delivers all it has",
    times=1,
)
async def all_at_once(round_: Round) -> Outcome:
    round_.folder.mkdir(parents=True, exist_ok=True)
    async with standing(round_.folder) as (proxy, crowd, gateways):
        worst, slowest = 0, 0.0
        for _ in range(round_.times):
            await asyncio.gather(*(gateway.read() for gateway in gateways))
            await until(lambda: all(gateway.publisher.online for gateway in gateways), "all to be connected")
            await proxy.refuse()
            await asyncio.gather(*(gateway.read() for gateway in gateways))
            await asyncio.sleep(OUTAGE)
            await asyncio.gather(*(gateway.read() for gateway in gateways))
            proxy.accepted.clear()
            began = now()
            await proxy.start()
            await until(lambda: not missing(crowd, gateways), "all readings of all gateways")
            slowest = max(slowest, (now() - began) / 1000)
            worst = max(worst, crowded(proxy.accepted))
        lost = missing(crowd, gateways)
        duplicated = sum(ledger.duplicated() for ledger in crowd.ledgers.values())
        wrong = sum(len(ledger.disorder()) for ledger in crowd.ledgers.values())
        note = f"at most {worst} of {GATEWAYS} connected within {CROWD} s; {len(proxy.accepted)} connections"
    return Outcome(round_.times, lost, duplicated, wrong, slowest, note)


def crowded(moments: list[float]) -> int:
    """How many of these, in ms, lie within one CROWD at most."""
    return max(sum(at <= other < at + CROWD * 1000 for other in moments) for at in moments)


def missing(crowd: Crowd, gateways: list[Light]) -> int:
    """Readings that have not arrived."""
    return sum(gateway.count - len(crowd.ledgers[gateway.name].arrived[1]) for gateway in gateways)


async def until(condition, what: str) -> None:
    deadline = now() + WITHIN * 1000
    while not condition():
        if now() > deadline:
            raise TimeoutError(f"{what}: not within {WITHIN} s")
        await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def standing(folder: Path) -> AsyncIterator[tuple[Proxy, Crowd, list[Light]]]:
    """Broker, proxy, IOC and the gateways."""
    broker, crowd = Mosquitto(folder / "broker"), Crowd()
    proxy, ioc = Proxy(broker.port), Ioc(broker.host, broker.port, crowd)
    await proxy.start()
    gateways = [Light(f"gw-{n}", folder, proxy.url) for n in range(GATEWAYS)]
    try:
        await broker.start()
        await ioc.start()
        for gateway in gateways:
            await gateway.start()
        yield proxy, crowd, gateways
    finally:
        await asyncio.gather(*(gateway.end() for gateway in gateways))
        await ioc.stop()
        await proxy.stop()
        await broker.close()
