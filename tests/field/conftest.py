"""A serial line in memory: bytes are there at once when they are sent, so that its time may be virtual."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from gateway.field.serial_link import SerialLink
from gateway.model import SerialPort


class AtOnce(ThreadPoolExecutor):
    """Runs what it is given on the spot: a thread would let virtual time run away meanwhile."""

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:  # type: ignore[override]
        done: Future[Any] = Future()
        try:
            done.set_result(function(*args, **kwargs))
        except OSError as error:
            done.set_exception(error)
        return done


class MemoryLine:
    """The far end of a serial line. `answer` is called with what arrives, and says what comes back by `say`."""

    def __init__(self, hands: Any, port: SerialPort) -> None:
        self.port = port
        self.answer: Callable[[bytes], None] = lambda request: None
        self.heard: list[tuple[float, bytes]] = []
        self.opened = 0
        self._hands = hands
        self._far: socket.socket | None = None

    def open_port(self, _port: SerialPort) -> socket.socket:
        self.opened += 1
        self.unplug()
        near, self._far = socket.socketpair()
        for end in (near, self._far):
            end.setblocking(False)
        asyncio.get_running_loop().add_reader(self._far, self._hear)
        return near

    def link(self) -> SerialLink:
        asyncio.get_running_loop().set_default_executor(AtOnce())
        return SerialLink(self.port, self._hands.clock(), self.open_port)  # type: ignore[arg-type]

    def say(self, data: bytes, after: float = 0.0) -> None:
        """Let bytes arrive, now or later."""
        asyncio.get_running_loop().call_later(after, self._say, data)

    def unplug(self) -> None:
        if self._far is not None:
            asyncio.get_running_loop().remove_reader(self._far)
            self._far.close()
            self._far = None

    def _say(self, data: bytes) -> None:
        if self._far is not None:
            with contextlib.suppress(BlockingIOError, BrokenPipeError):  # nobody reads: a real line loses it too
                self._far.send(data)

    def _hear(self) -> None:
        assert self._far is not None
        try:
            data = self._far.recv(4096)
        except ConnectionResetError:  # the near end was closed with bytes in it
            data = b""
        if not data:
            self.unplug()
            return
        self.heard.append((self._hands.now, data))
        self.answer(data)


@pytest.fixture
def memory_line(hands):
    """Make a far end at a speed; its `link()` is a real SerialLink over it."""

    def make(baud: int = 9600) -> MemoryLine:
        return MemoryLine(hands, SerialPort("/dev/memory", baud))

    return make
