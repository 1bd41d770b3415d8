"""A TCP proxy between agent and broker that fails on demand. Every switch can be turned while it runs.

It stands in for tc netem, which few kernels of test machines have, and does what no packet filter can: it knows where
an MQTT packet from the broker ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import packets
from devices import now

NARROW = 4096
"""Bytes on the way over a throttled link, each way: the rest stays with the sender, as on a real one."""
SLICE = 0.02
"""Seconds of a throttled link that are sent at once."""


def none() -> float:
    return 0.0


@dataclass
class Proxy:
    """Forwards `port` on `host` to a broker's port `target` on `toward`."""

    target: int
    port: int = 0
    host: str = "127.0.0.1"
    toward: str = "127.0.0.1"
    delay: Callable[[], float] = none
    """Seconds that the next bytes are on their way; they never overtake others."""
    rate: float | None = None
    """Bytes per second, each way; None: as fast as it goes."""
    swallow_up: bool = False
    """What the agent sends is taken and thrown away: the connection is half-open."""
    swallow_down: bool = False
    keep_pubacks: bool = False
    """The broker's PUBACKs do not reach the agent."""
    repeat_pubacks: int = 1
    """Each PUBACK comes so many times."""
    turn_pubacks: int = 1
    """So many PUBACKs are gathered and come in the reverse order."""
    cut_after: int | None = None
    """Bytes from the agent until every connection is reset."""
    last_words: bytes = b""
    """What the agent is told when the broker hangs up: mosquitto 2.0.11 says nothing, others do."""
    accepted: list[float] = field(default_factory=list)
    """When connections were made, ms of the monotonic clock."""
    kept: int = 0
    """PUBACKs that did not reach the agent."""
    carried: int = 0
    """Bytes from the agent to the broker."""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _server: asyncio.Server | None = None

    # ---- life

    async def start(self) -> None:
        """Listen; also again after `refuse`."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW)
        listener.bind((self.host, self.port))
        self.port = listener.getsockname()[1]
        self._server = await asyncio.start_server(self._serve, sock=listener, limit=NARROW)

    async def refuse(self) -> None:
        """Nobody listens any more, and every connection is reset."""
        if self._server:
            self._server.close()
            self._server = None
        await self.cut()

    async def stop(self) -> None:
        await self.refuse()

    async def cut(self) -> None:
        """Reset every connection."""
        self._reset()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._tasks)

    @property
    def url(self) -> str:
        return f"mqtt://{self.host}:{self.port}"

    # ---- one connection

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        self._writers.add(writer)
        self.accepted.append(now())
        broker: asyncio.StreamWriter | None = None
        with contextlib.suppress(OSError, asyncio.CancelledError):
            try:
                answers, broker = await asyncio.open_connection(self.toward, self.target)
                self._writers.add(broker)
                up = _Lane(self, reader, broker, self._up)
                down = _Lane(self, answers, writer, _Packets(self).down)
                await first_of(up.read(), up.write(), down.read(), down.write())
                writer.write(self.last_words)
            finally:
                self._tasks.discard(task)
                for end in filter(None, (writer, broker)):
                    self._writers.discard(end)
                    end.close()

    def _up(self, data: bytes) -> Iterator[bytes]:
        if self.cut_after is not None:
            data, self.cut_after = data[: self.cut_after], self.cut_after - len(data)
        if not self.swallow_up:
            self.carried += len(data)
            yield data
        if self.cut_after is not None and self.cut_after <= 0:
            self.cut_after = None
            asyncio.get_running_loop().call_later(SLICE, self._reset)

    def _reset(self) -> None:
        for writer in list(self._writers):
            _reset(writer)


@dataclass
class _Packets:
    """What the broker says on one connection, packet by packet."""

    proxy: Proxy
    buffer: bytearray = field(default_factory=bytearray)
    gathered: list[bytes] = field(default_factory=list)

    def down(self, data: bytes) -> Iterator[bytes]:
        self.buffer += data
        for packet in packets.cut(self.buffer):
            if self.proxy.swallow_down:
                continue
            if packet[0] >> 4 == packets.PUBACK:
                yield from self._pubacks(packet)
            else:
                yield packet

    def _pubacks(self, packet: bytes) -> Iterator[bytes]:
        if self.proxy.keep_pubacks:
            self.proxy.kept += 1
            return
        self.gathered += [packet] * self.proxy.repeat_pubacks
        if len(self.gathered) >= self.proxy.turn_pubacks:
            yield from reversed(self.gathered)
            self.gathered.clear()


@dataclass
class _Lane:
    """One direction of one connection: what was read goes on when its time has come."""

    proxy: Proxy
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    change: Callable[[bytes], Iterator[bytes]]
    waiting: deque[tuple[float, bytes]] = field(default_factory=deque)
    size: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self) -> None:
        """Take bytes until the end of the stream; wait while a throttled link is full."""
        loop = asyncio.get_running_loop()
        due = 0.0
        while data := await self.reader.read(65536):
            due = max(due, loop.time() + self.proxy.delay())
            for piece in self.change(data):
                self.waiting.append((due, piece))
                self.size += len(piece)
            self.news.set()
            while self.proxy.rate and self.size > NARROW:
                await asyncio.sleep(SLICE)
        while self.waiting:
            await asyncio.sleep(SLICE)

    async def write(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self.waiting:
                self.news.clear()
                await self.news.wait()
            due, piece = self.waiting[0]
            if (rest := due - loop.time()) > 0:
                await asyncio.sleep(rest)
            await self._send(piece)
            self.size -= len(piece)
            self.waiting.popleft()

    async def _send(self, piece: bytes) -> None:
        while piece:
            rate = self.proxy.rate
            some = max(1, int(rate * SLICE)) if rate else len(piece)
            self.writer.write(piece[:some])
            await self.writer.drain()
            piece = piece[some:]
            if rate:
                await asyncio.sleep(some / rate)


async def first_of(*coroutines) -> None:
    """Run them side by side until the first ends."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _reset(writer: asyncio.StreamWriter) -> None:
    """End with RST instead of FIN."""
    with contextlib.suppress(OSError):
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
