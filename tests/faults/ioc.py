"""The IOC of a stage: a subscriber with a persistent session that writes all into a ledger. No code of the product."""

from __future__ import annotations

import asyncio
import contextlib
import json

import packets
from ledger import Key, Ledger

RETRY = 0.02
STREAM_LIMIT = 2**24


class Ioc:
    """Subscribes to one broker, comes back by itself. `acknowledge` sends dn/ack for each durable message."""

    def __init__(self, host: str, port: int, ledger: Ledger, *, acknowledge: bool = False) -> None:
        self.ledger = ledger
        self.connected = asyncio.Event()
        self._host, self._port, self._acknowledge = host, port, acknowledge
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect; the session of before goes on."""
        self._task = asyncio.create_task(self._run())
        await asyncio.wait_for(self.connected.wait(), 20)

    async def stop(self) -> None:
        """Go away without a goodbye; the broker keeps the session."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def say(self, topic: str, payload: bytes) -> None:
        """Publish something of the IOC's."""
        if self._writer:
            self._writer.write(packets.publish(topic, payload))

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._listen()
            self.connected.clear()
            await asyncio.sleep(RETRY)

    async def _listen(self) -> None:
        reader, writer = await asyncio.open_connection(self._host, self._port, limit=STREAM_LIMIT)
        try:
            writer.write(packets.connect("ioc", clean=False) + packets.subscribe("city/v1/+/up/#"))
            self._writer = writer
            while True:
                first, body = await packets.whole(reader)
                if first >> 4 == packets.SUBACK:
                    self.connected.set()
                elif first >> 4 == packets.PUBLISH:
                    topic, mid, payload = packets.published(first, body)
                    self._confirm(topic, self.ledger.take(topic, payload))
                    if mid:
                        writer.write(packets.packet(packets.PUBACK << 4, mid))
        finally:
            self._writer = None
            writer.transport.abort()

    def _confirm(self, topic: str, key: Key | None) -> None:
        if self._acknowledge and key and self.ledger.whole(key):
            ack = {"epoch": key[1], "stream": key[2], "ranges": [[key[3], key[3]]]}
            self.say(topic.partition("/up/")[0] + "/dn/ack", json.dumps(ack).encode())
