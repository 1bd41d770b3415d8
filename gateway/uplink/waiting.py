"""What a connection waits for: answers to what was sent, and messages. Bounded; ends with the connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from math import inf
from typing import Any

from gateway.errors import UplinkError
from gateway.uplink.message import Incoming

_MOST, _MOST_BYTES = 1000, 8 * 2**20


class Answers:
    """Futures by packet identifier. There are as many as the window, and the subscriptions, have places."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pending: dict[int, asyncio.Future[Any]] = {}

    def expect(self, mid: int) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        self._pending[mid] = future
        future.add_done_callback(retrieved)
        return future

    def answer(self, mid: int, answer: Any) -> bool:
        """Fulfil what waits for it; returns whether somebody did."""
        future = self._pending.pop(mid, None)
        if future and not future.done():
            future.set_result(answer)
        return future is not None

    def fail(self, why: str) -> None:
        """The connection has ended: so has everything that waits."""
        pending, self._pending = self._pending, {}
        for future in pending.values():
            if not future.done():
                future.set_exception(UplinkError(why))


class Inbox:
    """Messages that have arrived. Of QoS 1 the broker sends no more than it may before they are acknowledged."""

    def __init__(self) -> None:
        self._arrived: deque[Incoming] = deque()
        self._bytes = 0
        self._news = asyncio.Event()
        self._ended = ""
        self.discarded = 0
        """Messages that found no room: a thousand wait, or 8 MiB."""

    def put(self, message: Incoming) -> bool:
        """Take a message; returns whether there was room."""
        if len(self._arrived) >= _MOST or (not message.qos and self._bytes >= _MOST_BYTES):
            self.discarded += 1
            return False
        self._arrived.append(message)
        self._bytes += len(message.payload)
        self._news.set()
        return True

    async def next(self) -> Incoming:
        """Give the next message, or wait for it. UplinkError when the connection has ended."""
        while not self._arrived:
            if self._ended:
                raise UplinkError(self._ended)
            self._news.clear()
            await self._news.wait()
        message = self._arrived.popleft()
        self._bytes -= len(message.payload)
        return message

    def end(self, why: str) -> None:
        self._ended = why
        self._news.set()


def answered(code: int) -> asyncio.Future[int]:
    """Give an answer that is known at once."""
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    future.set_result(code)
    return future


def retrieved(future: asyncio.Future[Any]) -> None:
    """Whoever asked may have gone with the connection: an unseen failure is no event for the loop's log."""
    if future.done() and not future.cancelled():
        future.exception()


async def rest(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, at most so long; infinity: without end."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(None if seconds == inf else seconds):
            await event.wait()
