"""A broker, and a gateway's uplink that talks to it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from drivers.base import Point, Sample
from gateway.clock import Clock
from gateway.model import Bus, Device, Readings, SerialPort, Site, StoreSettings, Uplink
from gateway.store import Store
from gateway.uplink.desk import Pace
from gateway.uplink.publisher import Publisher


@dataclass
class Mosquitto:
    """A broker that can be killed and started again."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self, acl: str = "") -> None:
        (self.folder / "acl").write_text(acl or "topic readwrite #\n")
        (self.folder / "acl").chmod(0o600)
        config = self.folder / "mosquitto.conf"
        config.write_text(
            f"user root\nlistener {self.port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 100000\n"
            f"acl_file {self.folder}/acl\n"
        )
        with (self.folder / "mosquitto.log").open("ab") as log:
            self.process = subprocess.Popen(["mosquitto", "-c", str(config)], stdout=log, stderr=log)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                break
            time.sleep(0.02)

    def kill(self) -> None:
        """End it as a power cut does: what it had only promised is gone."""
        if self.process:
            self.process.kill()
            self.process.wait(10)


@pytest.fixture
def mosquitto(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path, free_port())
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def broker(mosquitto: Mosquitto) -> str:
    """Give the URL of a running mosquitto."""
    return mosquitto.url


@dataclass
class Gateway:
    """The uplink of one gateway without its field."""

    clock: Clock
    store: Store
    publisher: Publisher
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(self) -> None:
        await self.store.open()
        self.tasks = [asyncio.create_task(self.store.run()), asyncio.create_task(self.publisher.run())]

    async def read(self, value: Any, quality: str = "good") -> None:
        samples = [Sample("voltage_l1", value, quality), Sample("điện.total", 7)]
        await self.store.append(Readings("meter-1", "a1b2c3d4", self.clock.mono_ms(), samples))
        self.store.flush()

    async def stop(self) -> None:
        await self.publisher.stop(1.0)
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.store.close()


@pytest.fixture
async def gateway(tmp_path: Path, broker: str) -> AsyncIterator[Callable[..., Gateway]]:
    built = []

    def build(name: str = "gw-1", keep_acked: int = 0, **uplink: Any) -> Gateway:
        clock = Clock("system", boot="0123456789ab")
        points = (Point("voltage_l1", None, unit="V"), Point("điện", None, unit="kW.h"))
        birth = {"points": [{"name": point.name, "unit": point.unit} for point in points]}
        device = Device("meter-1", "modbus", 1, points, birth=birth, cfg="a1b2c3d4")
        settings = StoreSettings(str(tmp_path / name), commit_every=0.2, linger=0.5, keep_acked=keep_acked)
        bus = Bus("bus-1", SerialPort("/dev/null"), "rtu", (device,))
        site = Site(name, "", "system", Uplink((broker,), **uplink), settings, (bus,))
        store = Store(settings, clock)
        pace = Pace(tick=0.05, speak=0.05, retry_first=0.02, retry_last=0.1, confirm_within=0.5)
        built.append(Gateway(clock, store, Publisher(site, store, clock, dict, pace=pace)))
        return built[-1]

    yield build
    for one in built:
        if one.tasks:
            await one.stop()
