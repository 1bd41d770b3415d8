"""Brokers to talk to: mosquitto as a child process, and a scripted one that misbehaves on purpose."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
import pytest
from oracle import oracle

from drivers.base import Point, Sample
from gateway.clock import Clock
from gateway.model import Bus, Device, Readings, SerialPort, Site, StoreSettings, Uplink
from gateway.store import Store
from gateway.uplink.desk import Pace
from gateway.uplink.message import Incoming
from gateway.uplink.mqtt import Session
from gateway.uplink.publisher import Publisher

CUT, WITHHOLD = "cut", "withhold"


class Mosquitto:
    """A real broker on loopback, ended by its own process."""

    def __init__(self, folder: Path, port: int, config: str) -> None:
        self.port = port
        self._config = folder / "mosquitto.conf"
        self._config.write_text(config)
        self._log = (folder / "mosquitto.log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(["mosquitto", "-c", str(self._config)], stdout=self._log, stderr=self._log)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            assert self._process.poll() is None, "mosquitto did not start"
            time.sleep(0.02)
        pytest.fail("mosquitto does not listen")

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def close(self) -> None:
        self.stop()
        self._log.close()

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"


@pytest.fixture
def mosquitto(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Callable[..., Mosquitto]]:
    """Start a broker; `extra` is added to its configuration, `listener` replaces the plain listener."""
    running = []

    def start(extra: str = "allow_anonymous true\n", listener: str = "") -> Mosquitto:
        port = free_port()
        folder = tmp_path / f"mosquitto-{len(running)}"
        folder.mkdir()
        config = f"user root\nlistener {port} 127.0.0.1\n{listener}\nmax_queued_messages 100000\n{extra}"
        broker = Mosquitto(folder, port, config)
        running.append(broker)
        broker.start()
        return broker

    yield start
    for broker in running:
        broker.close()


@dataclass
class Published:
    """What a client has published."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    properties: bytes

    @property
    def kind(self) -> str:
        return self.topic.partition("/up/")[2].partition("/")[0]

    def body(self) -> dict[str, Any]:
        return json.loads(self.payload) if self.payload[:1] == b"{" else msgpack.unpackb(self.payload)


@dataclass
class FakeBroker:
    """An MQTT server of 100 lines. `answer` says what a PUBLISH gets: a reason code, WITHHOLD, or CUT."""

    port: int = 0
    connack: int = 0
    connack_properties: bytes = b""
    session_present: bool = False
    versions: tuple[int, ...] = (5,)
    silent: bool = False
    greeting: bytes = b""
    answer: Callable[[Published], int | str] = lambda published: 0
    published: list[Published] = field(default_factory=list)
    connects: list[dict[str, Any]] = field(default_factory=list)
    subscribed: list[str] = field(default_factory=list)
    pings: int = 0
    most_unanswered: int = 0
    puback_delay: float = 0.0
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _server: asyncio.Server | None = None
    _next: int = 0

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def kinds(self, kind: str) -> list[Published]:
        return [one for one in self.published if one.kind == kind]

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server
        self._server.close()
        self.cut()
        await asyncio.sleep(0)
        await self._server.wait_closed()

    def cut(self) -> None:
        """End every connection without a goodbye."""
        for writer in list(self._writers):
            writer.transport.abort()

    def dismiss(self, code: int) -> None:
        """Send DISCONNECT with a reason to every client."""
        for writer in self._writers:
            writer.write(_packet(0xE0, bytes([code, 0])))

    def send(self, topic: str, payload: bytes) -> None:
        """Deliver a message with QoS 1 to every client."""
        self._next += 1
        name = topic.encode()
        for writer in self._writers:
            body = struct.pack("!H", len(name)) + name + struct.pack("!H", self._next) + b"\0" + payload
            writer.write(_packet(0x32, body))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        unanswered = 0
        level = 5
        try:
            if self.greeting:
                writer.write(self.greeting)
                return
            while True:
                kind, body = await _read(reader)
                if kind >> 4 == 1:
                    level = body[6]
                    self.connects.append(_connect(body))
                    if self.silent:
                        continue
                    if not self._connack(writer, level):
                        return
                elif kind >> 4 == 3:
                    unanswered += 1
                    self.most_unanswered = max(self.most_unanswered, unanswered)
                    if not await self._puback(writer, kind, body, level):
                        return
                    unanswered -= 1
                elif kind >> 4 == 8:
                    names = _filters(body, level)
                    self.subscribed += names
                    writer.write(_packet(0x90, body[:2] + (b"\0" if level == 5 else b"") + bytes([1] * len(names))))
                elif kind >> 4 == 12:
                    self.pings += 1
                    writer.write(_packet(0xD0, b""))
                elif kind >> 4 == 14:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def _connack(self, writer: asyncio.StreamWriter, level: int) -> bool:
        if level not in self.versions:
            writer.write(_packet(0x20, b"\x00\x84\x00" if level == 5 else b"\x00\x01"))
            return False
        head = bytes([self.session_present and not self.connack, self.connack])
        tail = bytes([len(self.connack_properties)]) + self.connack_properties if level == 5 else b""
        writer.write(_packet(0x20, head + tail))
        return not self.connack

    async def _puback(self, writer: asyncio.StreamWriter, kind: int, body: bytes, level: int) -> bool:
        published, mid = _publish(kind, body, level)
        self.published.append(published)
        answer = self.answer(published)
        if answer == CUT:
            writer.transport.abort()
            return False
        if published.qos and answer != WITHHOLD:
            if self.puback_delay:
                await asyncio.sleep(self.puback_delay)
            writer.write(_packet(0x40, mid + (bytes([int(answer), 0]) if level == 5 and answer else b"")))
        return True


async def _read(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    kind = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return kind, await reader.readexactly(length)


def _packet(kind: int, body: bytes) -> bytes:
    length, rest = b"", len(body)
    while True:
        rest, low = rest >> 7, rest & 127
        length += bytes([low | (128 if rest else 0)])
        if not rest:
            return bytes([kind]) + length + body


def _text(body: bytes, at: int) -> tuple[str, int]:
    (size,) = struct.unpack_from("!H", body, at)
    return body[at + 2 : at + 2 + size].decode(), at + 2 + size


def _varint(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (body[at] & 127) << shift
        shift += 7
        at += 1
        if body[at - 1] < 128:
            return value, at


def _connect(body: bytes) -> dict[str, Any]:
    level, flags = body[6], body[7]
    (keepalive,) = struct.unpack_from("!H", body, 8)
    at = 10
    properties = b""
    if level == 5:
        size, at = _varint(body, at)
        properties = body[at : at + size]
        at += size
    identifier, at = _text(body, at)
    will: dict[str, Any] = {}
    if flags & 4:
        if level == 5:
            size, at = _varint(body, at)
            at += size
        topic, at = _text(body, at)
        (size,) = struct.unpack_from("!H", body, at)
        will = {"topic": topic, "payload": body[at + 2 : at + 2 + size], "retain": bool(flags & 32)}
        at += 2 + size
    return {
        "level": level,
        "clean": bool(flags & 2),
        "keepalive": keepalive,
        "id": identifier,
        "will": will,
        "properties": properties,
    }


def _filters(body: bytes, level: int) -> list[str]:
    at = 2
    if level == 5:
        size, at = _varint(body, at)
        at += size
    names = []
    while at < len(body):
        name, at = _text(body, at)
        at += 1
        names.append(name)
    return names


def _publish(kind: int, body: bytes, level: int) -> tuple[Published, bytes]:
    topic, at = _text(body, 0)
    qos = kind >> 1 & 3
    mid = b""
    if qos:
        mid, at = body[at : at + 2], at + 2
    properties = b""
    if level == 5:
        size, at = _varint(body, at)
        properties, at = body[at : at + size], at + size
    return Published(topic, body[at:], qos, bool(kind & 1), bool(kind & 8), properties), mid


@pytest.fixture
async def fake_broker() -> AsyncIterator[FakeBroker]:
    broker = FakeBroker()
    await broker.start()
    yield broker
    await broker.stop()


@pytest.fixture(name="oracle", scope="session")
def _oracle() -> Callable[[bytes], dict[str, Any]]:
    return oracle


def device(name: str = "meter-1", *, cfg: str = "a1b2c3d4") -> Device:
    points = (Point("voltage_l1", None, unit="V"), Point("state", None))
    birth = {"profile": {"id": "test"}, "points": [{"name": point.name, "unit": point.unit} for point in points]}
    return Device(name, "modbus", 1, points, birth=birth, cfg=cfg)


@dataclass
class Ioc:
    """Somebody who has subscribed to everything, and only listens unless told to speak."""

    session: Session
    heard: list[Incoming] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    async def listen(self) -> None:
        async for message in self.session.messages():
            self.heard.append(message)

    def of(self, kind: str) -> list[Incoming]:
        return [message for message in self.heard if message.topic.partition("/up/")[2].partition("/")[0] == kind]

    def batches(self) -> list[dict[str, Any]]:
        return [oracle(message.payload) for message in self.of("telemetry")]

    def values(self, point: str = "voltage_l1") -> list[Any]:
        """Values of one point by distinct key: what at-least-once leaves after de-duplication."""
        unique = {(b["gw"], b["epoch"], b["seq"], str(b.get("part"))): b for b in self.batches()}
        return sorted(row[4] for batch in unique.values() for row in batch["rows"] if row[2] == point)

    def events(self) -> list[dict[str, Any]]:
        return [msgpack.unpackb(message.payload) for message in self.of("event")]

    async def say(self, topic: str, **body: Any) -> int:
        return await self.session.publish(f"city/v1/gw-1/{topic}", json.dumps(body).encode())

    async def close(self) -> None:
        if self.task:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
            self.task = None
        await self.session.close()


@pytest.fixture
async def ioc(mosquitto: Any, fake_broker: FakeBroker) -> AsyncIterator[Callable[[str], Awaitable[Ioc]]]:
    """Connect an IOC to a broker."""
    opened = []

    async def connect(url: str, filters: str = "city/v1/+/up/#") -> Ioc:
        session = await Session.open(url, Uplink((url,)), "ioc")
        one = Ioc(session)
        opened.append(one)
        if filters:
            assert await session.subscribe(filters) == []
        one.task = asyncio.create_task(one.listen())
        return one

    yield connect
    for one in opened:
        await one.close()


@dataclass
class Rig:
    """A store and a publisher against some broker: the uplink of one gateway without its field."""

    site: Site
    clock: Clock
    store: Store
    publisher: Publisher
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    appended: int = 0

    async def start(self) -> None:
        await self.store.open()
        self.tasks = [asyncio.create_task(self.store.run()), asyncio.create_task(self.publisher.run())]

    async def read(self, value: float = 230.2, name: str = "meter-1", cfg: str = "a1b2c3d4") -> None:
        """One reply of a device, as a batch of its own."""
        self.appended += 1
        samples = [Sample("voltage_l1", value), Sample("state", "on")]
        await self.store.append(Readings(name, cfg, self.clock.mono_ms(), samples))
        self.store.flush()

    async def stop(self, grace: float = 5.0) -> None:
        if self.tasks:
            await self.publisher.stop(grace)
            await self.kill()

    async def kill(self) -> None:
        """End without a goodbye, as far as the broker is concerned."""
        tasks, self.tasks = self.tasks, []
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
        await self.store.close()


QUICK = Pace(
    tick=0.05, speak=0.05, watch=0.05, retry_first=0.02, retry_last=0.1, steady=60.0, confirm_within=0.3, stall=5.0
)


@pytest.fixture
async def rig(tmp_path: Path, mosquitto: Any, fake_broker: FakeBroker) -> AsyncIterator[Callable[..., Rig]]:
    """Build the uplink of one gateway against the broker(s) at `urls`, which outlive it. Keywords go to its Uplink."""
    rigs = []

    def build(
        *urls: str,
        devices: tuple[Device, ...] = (device(),),
        clock: Clock | None = None,
        pace: Pace = QUICK,
        folder: str = "store",
        health: Callable[[], dict[str, Any]] = dict,
        **uplink: Any,
    ) -> Rig:
        bus = Bus("bus-1", SerialPort("/dev/null"), "rtu", devices)
        store_settings = StoreSettings(str(tmp_path / folder), commit_every=0.2, linger=0.5)
        site = Site("gw-1", "quarter", "system", Uplink(urls, **uplink), store_settings, (bus,), sha256="00" * 32)
        clock = clock or Clock("system", boot="0123456789ab")
        store = Store(store_settings, clock)
        built = Rig(site, clock, store, Publisher(site, store, clock, health, pace=pace))
        rigs.append(built)
        return built

    yield build
    for one in rigs:
        if one.tasks:
            await one.stop(0.1)
