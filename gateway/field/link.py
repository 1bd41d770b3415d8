"""One byte port, and the time on its wire: response time-out, inter-frame silence, quiet gap, one write per frame.

The only module that opens field ports. A link is used by one task, one exchange at a time.
"""

from __future__ import annotations

import asyncio
import os
import socket
import termios
from typing import NamedTuple, Protocol

import serial

from drivers.base import BadFrame, Exchange, Find, NoReply, Reject
from gateway.clock import Clock
from gateway.errors import LinkError
from gateway.field.cost import silence
from gateway.model import Bus, SerialPort, TcpPort

KEEP = 4096
"""Bytes of a babbling line that are looked at for one reply; more is a bad frame."""
SILENCE = 0.010
"""A frame of full length that does not fit is given up after this silence, not after the time-out."""
SHORT_SILENCE = 0.050
"""A frame that stops early may sit in a USB adapter (16 ms latency timer) for a while."""
QUIET_GAP = 0.3
"""After a time-out on a line without transaction numbers: what comes now is late, and must not answer the next."""
PATIENCE = 1.0
"""Seconds that a request waits for a line that does not fall silent."""
CONNECT_TIMEOUT = 5.0
BACKOFF = (0.5, 5.0)


class Reply(NamedTuple):
    """A reply frame and the monotonic time at which its last byte was read."""

    frame: bytes
    at: float


class Link(Protocol):
    """What the poller needs of a port."""

    busy: float
    """Seconds on the wire so far, waiting included."""

    async def open(self) -> None:
        """Open the port. LinkError when it cannot be used now."""

    def close(self) -> None: ...

    async def exchange(self, step: Exchange, timeout: float) -> Reply:
        """Send and wait for the reply, at most `timeout` seconds plus wire time. NoReply, BadFrame, LinkError."""

    async def pause(self, seconds: float) -> None:
        """Keep the line silent for so long."""


class Inbox:
    """Bytes that arrive, until the reply is found among them."""

    def __init__(self, clock: Clock) -> None:
        self._now = clock.monotonic
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._find: Find | None = None
        self._waiter: asyncio.Future[Reply] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._size = 0
        self.last = 0.0

    def feed(self, data: bytes) -> None:
        """Take what the port gave."""
        self.last = self._now()
        waiter, find = self._waiter, self._find
        if waiter is None or find is None or waiter.done():
            return
        buffer = self._buffer
        buffer += data
        while buffer:
            found = find(buffer)
            if found is None:
                break
            if isinstance(found, Reject):
                del buffer[: found.size]
                continue
            waiter.set_result(Reply(bytes(buffer[found.start : found.end]), self.last))
            return
        if len(buffer) > KEEP:
            waiter.set_exception(BadFrame("the line babbles: bytes without end, and no frame among them"))
        elif buffer:
            self._rearm(SILENCE if len(buffer) >= self._size else SHORT_SILENCE)

    def fail(self, error: Exception) -> None:
        """The port is gone: whoever waits learns it now."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    async def reply(self, step: Exchange, deadline: float) -> Reply:
        """Wait until the reply is found, the line falls silent within a frame, or the deadline passes."""
        self._find, self._size = step.find, step.reply_size
        self._waiter = self._loop.create_future()
        self._rearm(deadline - self._now())
        try:
            return await self._waiter
        finally:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._waiter = None
            self._find = None
            self._buffer.clear()

    def _rearm(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._expire)

    def _expire(self) -> None:
        if self._buffer:
            self.fail(BadFrame(f"{len(self._buffer)} bytes came that are no answer: {self._buffer[:32].hex(' ')}"))
        else:
            self.fail(NoReply("no answer within the response time-out"))


class SerialLink:
    """A serial line, opened exclusively by name, read through the event loop."""

    def __init__(self, port: SerialPort, clock: Clock) -> None:
        self.busy = 0.0
        self._port = port
        self._now = clock.monotonic
        self._clock = clock
        self._character = port.bits / port.baud
        self._silence = silence(port)
        self._device: serial.Serial | None = None
        self._inbox: Inbox | None = None
        self._lost = f"{port.port} is not open"
        self._free_at = 0.0

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._device = await loop.run_in_executor(None, self._open_device)
        self._inbox = Inbox(self._clock)
        loop.add_reader(self._device.fileno(), self._read)
        self._free_at = self._now() + self._silence

    def close(self) -> None:
        if self._device is not None:
            asyncio.get_running_loop().remove_reader(self._device.fileno())
            self._device.close()
            self._device = None

    async def exchange(self, step: Exchange, timeout: float) -> Reply:
        inbox = self._inbox
        if inbox is None:
            raise LinkError(self._lost)
        began = self._now()
        await self._until(max(self._free_at, inbox.last + self._silence))
        self._read()  # what the loop has had no time for came before the request, and must not answer it
        await self._until(inbox.last + self._silence)
        self._write(step.request)
        sent = self._now() + len(step.request) * self._character
        if step.find is None:
            self._free_at = sent + max(self._silence, step.min_wait)
            self.busy += self._now() - began
            return Reply(b"", sent)
        try:
            reply = await inbox.reply(step, sent + max(timeout, step.min_wait) + step.reply_size * self._character)
            self._free_at = reply.at + self._silence
            return reply
        except NoReply:
            self._free_at = self._now() + QUIET_GAP
            raise
        finally:
            self.busy += self._now() - began

    async def pause(self, seconds: float) -> None:
        await self._until(self._now() + seconds)

    async def _until(self, when: float) -> None:
        # The line may speak while we wait (a late reply, noise): the silence counts from its last byte.
        patience = max(when, self._now()) + PATIENCE
        while (rest := when - self._now()) > 0:
            await asyncio.sleep(rest)
            if self._inbox is not None:
                when = max(when, self._inbox.last + self._silence)
            if when > patience:
                raise BadFrame("the line babbles: it does not fall silent")

    def _open_device(self) -> serial.Serial:
        port, form = self._port, self._port.format
        try:
            device = serial.Serial(
                port.port,
                port.baud,
                bytesize=int(form[0]),
                parity=form[1],
                stopbits=int(form[2]),
                timeout=0,
                exclusive=True,
            )
            tell_empty_from_gone(device)
            return device
        except (OSError, ValueError, termios.error) as error:
            raise LinkError(explain_serial(port, error)) from None

    def _write(self, request: bytes) -> None:
        if self._device is None:  # lost while we waited
            raise LinkError(self._lost)
        try:
            written = os.write(self._device.fileno(), request)
        except OSError as error:
            raise LinkError(explain_serial(self._port, error)) from None
        if written != len(request):
            raise LinkError(f"{self._port.port} took {written} of {len(request)} bytes: the line is blocked")

    def _read(self) -> None:
        if self._device is None or self._inbox is None:
            return
        try:
            data = os.read(self._device.fileno(), KEEP)
        except BlockingIOError:
            return
        except OSError as error:
            data, reason = b"", str(error)
        else:
            reason = "the device is gone"
        if data:
            self._inbox.feed(data)
            return
        asyncio.get_running_loop().remove_reader(self._device.fileno())
        self._lost = f"{self._port.port} was lost ({reason}): was the adapter unplugged?"
        self._inbox.fail(LinkError(self._lost))
        self._device.close()
        self._device = None


def tell_empty_from_gone(device: serial.Serial) -> None:
    """Let a read without data say "try again": an empty one then means that the device is gone (termios(3), VMIN)."""
    attributes = termios.tcgetattr(device.fileno())
    attributes[6][termios.VMIN] = 1
    termios.tcsetattr(device.fileno(), termios.TCSANOW, attributes)


class TcpLink(asyncio.Protocol):
    """One TCP connection to an endpoint; `quiet_gap` for framings without transaction numbers."""

    def __init__(self, port: TcpPort, clock: Clock, *, quiet_gap: float) -> None:
        self.busy = 0.0
        self._port = port
        self._clock = clock
        self._now = clock.monotonic
        self._quiet_gap = quiet_gap
        self._free_at = 0.0
        self._transport: asyncio.Transport | None = None
        self._inbox: Inbox | None = None

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        port = self._port
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                transport, _ = await loop.create_connection(lambda: self, port.host, port.port)
        except OSError as error:
            raise LinkError(explain_tcp(port, error)) from None
        link = transport.get_extra_info("socket")
        link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._inbox = Inbox(self._clock)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    async def exchange(self, step: Exchange, timeout: float) -> Reply:
        transport, inbox = self._transport, self._inbox
        if transport is None or inbox is None:
            raise LinkError(f"{self._port.host}:{self._port.port} has closed the connection")
        began = self._now()
        if (rest := self._free_at - began) > 0:
            await asyncio.sleep(rest)
        transport.write(step.request)
        if step.find is None:
            return Reply(b"", self._now())
        try:
            return await inbox.reply(step, self._now() + max(timeout, step.min_wait))
        except (NoReply, BadFrame):
            self._free_at = self._now() + self._quiet_gap
            raise
        finally:
            self.busy += self._now() - began

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._inbox is not None:
            self._inbox.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._inbox is not None:
            reason = f" ({exc})" if exc else ""
            self._inbox.fail(LinkError(f"{self._port.host}:{self._port.port} has closed the connection{reason}"))


def link_of(bus: Bus, clock: Clock) -> Link:
    """Build the link of a bus, closed."""
    if isinstance(bus.port, SerialPort):
        return SerialLink(bus.port, clock)
    return TcpLink(bus.port, clock, quiet_gap=0.0 if bus.framing == "tcp" else QUIET_GAP)


def explain_serial(port: SerialPort, error: Exception) -> str:
    """Say why a serial port cannot be used, and what to do."""
    code = getattr(error, "errno", None)
    name = port.port
    if code == 2:
        return f"{name} does not exist: is the adapter plugged in? `ls /dev/serial/by-path/` shows the ports there are"
    if code == 13:
        return f"{name} may not be opened: add the user to the group of the port (`sudo usermod -aG dialout $USER`)"
    if code in (11, 16):
        return f"{name} is in use by another program: `sudo fuser -v {name}` names it"
    return f"{name} cannot be used at {port.baud} baud {port.format}: {error}"


def explain_tcp(port: TcpPort, error: Exception) -> str:
    """Say why an endpoint cannot be reached, and what to do."""
    name = f"{port.host}:{port.port}"
    if isinstance(error, TimeoutError):
        return f"{name} does not answer: check power, cable and address; `ping {port.host}` tells if the host is there"
    if isinstance(error, ConnectionRefusedError):
        return f"{name} refuses: the host is there, but nothing listens on port {port.port}; Modbus TCP uses 502"
    if isinstance(error, socket.gaierror):
        return f"the name {port.host} is unknown: check the spelling, or write the address as numbers"
    return f"{name} cannot be reached: {error}"
