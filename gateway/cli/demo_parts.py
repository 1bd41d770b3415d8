"""The parts of a demo: the broker and the agent as child processes, and the referee, who is the IOC."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import signal
import socket
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gateway.clock import Clock
from gateway.errors import GatewayError, UplinkError
from gateway.ioc.decode import Message
from gateway.ioc.ledger import Ledger
from gateway.ioc.receiver import Arrival, Receiver
from gateway.model import Reading, Site
from gateway.simulator import Simulator
from gateway.store.look import waiting
from gateway.uplink.mqtt import Session

START_LIMIT = 10.0
RATE_OVER = 10.0
"""Seconds over which a rate is taken."""
SLACK_MS = 150
"""A device may have moved on while its answer was on the wire."""

# rumqttd in a wheel; its default packet limit of 20 kB is less than a batch.
BROKER_TOML = """
id = 0
[router]
id = 0
max_connections = 100
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v5.1]
name = "demo"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1
[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = 1048576
max_inflight_count = 100
"""


def die_with_parent() -> None:
    """Ask the kernel to end this child should the demo be killed (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


class Broker:
    """The built-in broker on loopback, or somebody else's."""

    def __init__(self, url: str | None, folder: Path) -> None:
        self._options = ""
        self._process: asyncio.subprocess.Process | None = None
        if url:
            self.url = url
            return
        if find_spec("iotcore") is None:
            raise GatewayError(
                "the built-in broker is not installed: install smart-city-gateway[demo], or name one with --broker URL"
            )
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = probe.getsockname()[1]
        config = folder / "broker.toml"
        config.write_text(BROKER_TOML.format(port=self._port), encoding="utf-8")
        self.url = f"mqtt://127.0.0.1:{self._port}"
        self._options = json.dumps({"config_path": str(config)})

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        await self.start()
        try:
            yield
        finally:
            await self.stop()

    async def start(self) -> None:
        if not self._options:
            return
        # Not by the package's own Broker class: its child would take every Ctrl-C for itself and leave before the end.
        command = (sys.executable, "-m", "iotcore._serve", self._options)
        self._process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, start_new_session=True, preexec_fn=die_with_parent
        )
        async with asyncio.timeout(START_LIMIT):
            while not await self._listens():
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        if self._process and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except ConnectionRefusedError:
            return False
        writer.close()
        return True


class Agent:
    """The real agent, in a process of its own."""

    def __init__(self, config: Path, folder: Path) -> None:
        self._config = config
        self._log = folder / "agent.log"
        self._process: asyncio.subprocess.Process | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        command = (sys.executable, "-m", "gateway", "run", "--config", str(self._config))
        with self._log.open("wb") as log:
            # A session of its own: Ctrl-C is for us, and we stop the agent in order.
            self._process = await asyncio.create_subprocess_exec(
                *command, stderr=log, start_new_session=True, preexec_fn=die_with_parent
            )
        try:
            yield
        finally:
            await self.stop(2.0)

    async def stop(self, limit: float) -> None:
        """End the agent as systemd would: it flushes, hands over what it can, and leaves."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(limit):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    def complaints(self) -> str:
        """Return what the agent wrote when it did not end well."""
        code = self._process.returncode if self._process else None
        return "" if code == 0 else f"the agent ended with {code}:\n{self._log.read_text(encoding='utf-8')[-4000:]}"


class Referee:
    """The IOC of a demo: receives, acknowledges, and compares every value with what the device held."""

    def __init__(self, site: Site, simulator: Simulator, clock: Clock) -> None:
        self._site = site
        self._simulator = simulator
        self._clock = clock
        self._points = {(d.name, point.name) for bus in site.buses for d in bus.devices for point in d.points}
        self._ledger = Ledger()
        self._arrivals: dict[str, deque[tuple[float, int]]] = {}
        self._back_at: float | None = None
        self._health: Mapping[str, Any] = {}
        self._said_goodbye = False
        self.last: dict[str, dict[str, Reading]] = {}
        self.examples: list[str] = []
        self.broker_is_up = True
        self.received = self.checked = self.wrong = 0
        self.drain = 0.0

    async def run(self) -> None:
        """Receive, over every loss of the connection."""
        while True:
            with contextlib.suppress(UplinkError):
                await self._receive(await Session.open(self._site.uplink.brokers[0], self._site.uplink, "demo-ioc"))
            await asyncio.sleep(0.2)

    async def _receive(self, session: Session) -> None:
        try:
            receiver = Receiver(session, self._site.uplink.prefix, ack=True, ledger=self._ledger)
            await receiver.subscribe()
            async for arrival in receiver.arrivals():
                self._take(arrival)
        finally:
            await session.close()

    @property
    def buses(self) -> Mapping[str, Any]:
        """The agent's own figures of each bus."""
        return self._health.get("buses", {})  # type: ignore[no-any-return]

    @property
    def pending(self) -> int:
        """Readings that the agent holds: as it said last, or what is on its disk while it cannot say anything."""
        if not self._health or not self.broker_is_up:
            return waiting(Path(self._site.store.path))
        return int(self._health.get("store", {}).get("pending", 0))

    @property
    def backlog(self) -> int:
        """Readings that wait on the agent's disk, as it said last."""
        store = self._health.get("store", {})
        return int(store.get("pending", 0)) - int(store.get("uncommitted", 0))

    def missing(self) -> int:
        """Batches below the highest that came which did not come."""
        return sum(last - first + 1 for gaps in self._ledger.missing().values() for first, last in gaps)

    def duplicates(self) -> int:
        return self._ledger.duplicates

    def rate(self) -> float:
        """Readings per second of all devices."""
        return sum(map(self.rate_of, self._arrivals))

    def rate_of(self, device: str) -> float:
        """Readings per second that came of one device."""
        recent, now = self._arrivals.get(device, ()), self._clock.monotonic()
        return sum(count for at, count in recent if now - at < RATE_OVER) / RATE_OVER

    def broker_is_away(self) -> None:
        self.broker_is_up = False

    def broker_is_back(self) -> None:
        self.broker_is_up = True
        self._back_at = self._clock.monotonic()
        self._health = {}  # of before the outage: says nothing about the backlog

    async def drained(self, limit: float) -> None:
        """Wait until nothing is missing and the agent holds only what is fresh."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                while self.missing() or self.backlog or not self._health:
                    await asyncio.sleep(0.1)

    async def settled(self) -> None:
        """Wait until the agent's last words are in: it has ended, so they are on their way."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5.0):
                while not self._said_goodbye or self.received < self._reported() or self.missing():
                    await asyncio.sleep(0.05)

    def verdict(self, outage: float) -> dict[str, Any]:
        """Return the demo's result. `missing` counts readings; a gap in the batch numbers counts at least one."""
        stored = self._reported()
        unproven = not self._said_goodbye  # without the agent's last figures
        return {
            "readings_stored": stored,
            "readings_received": self.received,
            "missing": max(stored - self.received, self.missing(), int(unproven)),
            "duplicates": self.duplicates(),
            "wrong_values": self.wrong,
            "values_checked": self.checked,
            "outage_s": round(outage, 1),
            "drain_s": round(self.drain, 1),
            "examples": self.examples,
        }

    def _reported(self) -> int:
        return sum(int(bus.get("reported", 0)) for bus in self.buses.values())

    def _take(self, arrival: Arrival) -> None:
        if arrival.kind == "health":
            self._health = arrival.body
        elif arrival.kind == "status":  # the last words are the final figures, and then "offline"
            self._said_goodbye = not arrival.body.get("online")
        if arrival.kind != "telemetry" or arrival.message is None or not arrival.verdict:
            return
        message = arrival.message
        now = self._clock.monotonic()
        if message.hist and self._back_at is not None:
            self.drain = now - self._back_at
        for block in message.blocks:
            readings = message.readings_of(block)
            self.received += len(readings)
            recent = self._arrivals.setdefault(block.device, deque(maxlen=10_000))
            recent.append((now, len(readings)))
            for reading in readings:
                self._judge(message, reading)
                if not message.hist:
                    self.last.setdefault(reading.device, {})[reading.point] = reading

    def _judge(self, message: Message, reading: Reading) -> None:
        if reading.value is None or (reading.device, reading.point) not in self._points:
            return
        held = self._simulator.held(reading.device, reading.point, message.m0 + reading.ts - message.t0, SLACK_MS)
        self.checked += 1
        if reading.value not in held:
            self.wrong += 1
            if len(self.examples) < 5:
                self.examples.append(f"{reading.device} {reading.point}: received {reading.value}, held {held}")
