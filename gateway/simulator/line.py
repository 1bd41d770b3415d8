"""A serial line that exists only in this machine: a pseudo-terminal with the pace of a real line."""

from __future__ import annotations

import asyncio
import fcntl
import os
import select
import termios
import tty
from functools import partial
from pathlib import Path

from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.model import SerialPort
from gateway.simulator.bus import FakeBus
from gateway.simulator.pace import Pace
from gateway.simulator.wire import Request, requests

_TIOCGPTPEER = 0x5441  # ioctl_tty(2): open the other end of this pseudo-terminal, whatever its path and its locks
_STALE = 0.2  # seconds of silence after which the beginning of a request is forgotten
_WAITING = 8  # requests that may stand in line; a real line has none


class SerialLine:
    """One pseudo-terminal under the configured path, and the devices behind it."""

    def __init__(self, devices: FakeBus, port: SerialPort, clock: Clock) -> None:
        self._devices, self._clock, self._path = devices, clock, Path(port.port)
        self.pace = Pace(clock)
        self._buffer = bytearray()
        self._first = self._latest = 0.0  # when the oldest and the newest byte of the buffer came
        self._free = 0.0  # when the last request has left the line
        self._waiting = 0
        self._slave = ""

    @property
    def address(self) -> str:
        return str(self._path)

    async def open(self) -> None:
        """Make the pseudo-terminal and its link. GatewayError when the path is taken or cannot be made."""
        self._master, self._slave = self._terminal(self._slave)
        os.set_blocking(self._master, False)
        # While no client has the port open, the master is "ready" without end (EIO). Edge-triggered epoll says so once
        # and stays silent until bytes come; the event loop watches the epoll object instead of the master.
        self._edges = select.epoll()
        self._edges.register(self._master, select.EPOLLIN | select.EPOLLET)
        self._hung_up = select.poll()
        self._hung_up.register(self._master, 0)
        try:
            self._link()
        except GatewayError:
            self._close_files()
            raise
        asyncio.get_running_loop().add_reader(self._edges.fileno(), self._receive)

    def _terminal(self, before: str) -> tuple[int, str]:
        """A new pseudo-terminal, under another number than the one before: so does an adapter that is plugged again."""
        master, slave = os.openpty()
        tty.setraw(slave)
        name = os.ttyname(slave)
        os.close(slave)
        if name != before:
            return master, name
        try:
            return self._terminal(before)
        finally:
            os.close(master)

    async def close(self) -> None:
        """Remove the pseudo-terminal and its link, if they are there."""
        if self._edges.closed:
            return
        self.pace.forget()
        asyncio.get_running_loop().remove_reader(self._edges.fileno())
        if self._path.is_symlink() and str(self._path.readlink()) == self._slave:
            self._path.unlink()
        self._close_files()

    def _close_files(self) -> None:
        self._edges.close()
        os.close(self._master)

    def _link(self) -> None:
        if self._path.is_symlink() and not self._path.exists():
            self._path.unlink()  # left by a simulator that was killed
        try:
            self._path.symlink_to(self._slave)
        except FileExistsError as error:
            raise GatewayError(
                f"{self._path} exists already, so no simulated line can stand there. It is a real port, or another "
                f"simulator serves it. Choose another path; if a dead simulator left it, remove it: rm {self._path}"
            ) from error
        except OSError as error:
            raise GatewayError(
                f"{self._path} cannot be made: {error.strerror}. A simulated line is a link under the path of the "
                "port. Choose a path in a directory that you may write, for example /tmp/rs485-1."
            ) from error

    def _receive(self) -> None:
        self._edges.poll(0)
        now = self._clock.monotonic()
        while True:
            try:
                data = os.read(self._master, 4096)
            except BlockingIOError:
                return
            except OSError:  # EIO: the client has closed the port
                self._hang_up()
                return
            self._accept(data, now)

    def _accept(self, data: bytes, now: float) -> None:
        if now - self._latest > _STALE:
            self._buffer.clear()
        if not self._buffer:
            self._first = now
        self._latest = now
        self._buffer += data
        for request in requests(self._devices.framing, self._buffer):
            if self._waiting < _WAITING:
                self._waiting += 1
                self._free = max(self._first, self._free) + len(request.frame) * self._devices.character
                self.pace.at(self._free, partial(self._answer, request, self._free))
            self._first = now

    def _answer(self, request: Request, end: float) -> None:
        self._waiting -= 1
        self.pace.carry(self._devices.reply(request, end), self._write)

    def _hang_up(self) -> None:
        """Forget what a closed port forgets: half a request, what the client has not read, its lock on the port."""
        self._buffer.clear()
        peer = fcntl.ioctl(self._master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)
        termios.tcflush(peer, termios.TCIFLUSH)
        fcntl.ioctl(peer, termios.TIOCNXCL)
        os.close(peer)
        self._edges.poll(0)  # the edge that this peer made

    async def serve(self) -> None:
        """Answer requests, and do what the line does unasked, until cancelled."""
        await self.pace.watch(self._devices, self._plug, self._write)

    async def _plug(self, there: bool) -> None:
        self._waiting = 0
        self._buffer.clear()
        await (self.open() if there else self.close())

    def _write(self, piece: bytes) -> None:
        # A line does not wait for a reader: what nobody takes is gone.
        if not any(event & select.POLLHUP for _, event in self._hung_up.poll(0)):
            try:
                os.write(self._master, piece)
            except BlockingIOError:
                return
