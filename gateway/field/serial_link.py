"""A serial line: opened exclusively by name, read through the event loop, silent between frames."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import struct
import termios
from collections.abc import Callable
from dataclasses import replace

import serial
import serial.rs485

from drivers.base import BadFrame, BusError, Exchange, Line, NoReply
from gateway.clock import Clock
from gateway.errors import LinkError
from gateway.field.cost import silence
from gateway.field.link import FRAGMENT, KEEP, PATIENCE, QUIET_GAP, Inbox, Reply, babbles
from gateway.log import logger
from gateway.model import SerialPort

_TIOCGICOUNT = 0x545D
_ICOUNT = struct.Struct("11i36x")
"""struct serial_icounter_struct of linux/serial.h: cts dsr rng dcd rx tx frame overrun parity brk buf_overrun."""

Open = Callable[[SerialPort], serial.Serial]


class SerialLink:
    """One serial port. `open_port` is what opens it, so that a test can bring a line of its own."""

    def __init__(self, port: SerialPort, clock: Clock, open_port: Open | None = None) -> None:
        self.busy = 0.0
        self._site = port
        self._now = clock.monotonic
        self._clock = clock
        self._open_port = open_port or open_serial
        self._device: serial.Serial | None = None
        self._inbox: Inbox | None = None
        self._lost = f"{port.port} is not open"
        self.free_at = 0.0
        self._settle = 0.0  # the silence that is waited for: more than t3.5 while somebody talks without end
        self._garbled = 0  # exchanges in a row that ended in bytes without a reply
        self._pace(port)

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._pace(self._site)
        self._device = await loop.run_in_executor(None, self._open_port, self._site)
        self._inbox = Inbox(self._clock, self._site.port)
        loop.add_reader(self._device.fileno(), self._read)
        self._settle = max(FRAGMENT, self._silence)
        await self._silent(self._now() + self._settle)

    def close(self) -> None:
        if self._device is not None:
            asyncio.get_running_loop().remove_reader(self._device.fileno())
            self._device.close()
            self._device = None
            self._lost = f"{self._site.port} is not open"

    async def exchange(self, step: Exchange, timeout: float, quiet_gap: float = QUIET_GAP) -> Reply:
        inbox = self._inbox
        if inbox is None:
            raise LinkError(self._lost)
        began = self._now()
        await self._silent(max(self.free_at, inbox.last + self._settle))
        self._read()  # what the loop has had no time for came before the request, and must not answer it
        await self._silent(inbox.last + self._settle)
        self._write(step.request)
        sent = self._now() + len(step.request) * self._character
        if step.find is None:
            self.free_at = sent + max(self._silence, step.min_wait)
            self.busy += self.free_at - began
            return Reply(b"", sent)
        deadline = sent + max(timeout, step.min_wait) + step.reply_size * self._character
        try:
            reply = await inbox.reply(step, sent, deadline, self._character)
            self.free_at, self._settle, self._garbled = reply.at + self._silence, self._silence, 0
            return reply
        except (NoReply, BadFrame) as error:
            # A broken reply has come; one that did not come may still be on its way.
            now = self._now()
            self._garbled = self._garbled + 1 if error.heard else 0
            talking = self._garbled > 1 and now - inbox.last < FRAGMENT
            self._settle = max(FRAGMENT, self._silence) if talking else self._silence
            self.free_at = max(now + (quiet_gap if now >= deadline else self._silence), inbox.last + self._settle)
            raise
        finally:
            self.busy += self._now() - began

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def set_line(self, line: Line | None) -> None:
        port = self._site if line is None else replace(self._site, baud=line.baud, format=line.format)
        if port == self._port:
            return
        if self._device is None:
            if line is None:  # the port was lost meanwhile: it is opened as the site file says
                return
            raise LinkError(self._lost)
        try:
            set_form(self._device, port)
        except (OSError, ValueError, termios.error) as error:
            set_form(self._device, self._port)
            raise BusError(f"{port.port} cannot be set to {port.baud} baud {port.format}: {error}") from None
        self._pace(port)

    def strays(self) -> bytes:
        return self._inbox.strays if self._inbox else b""

    def errors(self) -> dict[str, int]:
        if self._device is None:
            return {}
        try:
            counts = _ICOUNT.unpack(fcntl.ioctl(self._device.fileno(), _TIOCGICOUNT, bytes(_ICOUNT.size)))
        except OSError:  # no UART: a pseudo-terminal, some USB adapters
            return {}
        return {"framing": counts[6], "overrun": counts[7], "parity": counts[8]}

    def _pace(self, port: SerialPort) -> None:
        """Take over the times of this speed and format."""
        self._port = port
        self._character = port.bits / port.baud
        self._silence = silence(port)

    async def _silent(self, when: float) -> None:
        """Wait until then, and until the line has been silent: it may speak meanwhile (a late reply, noise)."""
        patience = max(when, self._now()) + PATIENCE
        while (rest := when - self._now()) > 0:
            await asyncio.sleep(rest)
            if self._inbox is None or self._device is None:
                raise LinkError(self._lost)
            when = max(when, self._inbox.last + self._settle)
            if when > patience:
                raise LinkError(babbles(self._site.port))

    def _write(self, request: bytes) -> None:
        if self._device is None:  # lost while we waited
            raise LinkError(self._lost)
        try:
            written = os.write(self._device.fileno(), request)
        except OSError as error:
            raise LinkError(explain_serial(self._site, error)) from None
        if written != len(request):
            raise LinkError(f"{self._site.port} took {written} of {len(request)} bytes: the line is blocked")

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
        if not data:
            self._lose(f"{self._site.port} was lost ({reason}): was the adapter unplugged?")
        elif not self._inbox.feed(data):
            self._lose(babbles(self._site.port))

    def _lose(self, text: str) -> None:
        """The port cannot be used any more: close it, and tell whoever waits."""
        self.close()
        self._lost = text
        if self._inbox is not None:
            self._inbox.fail(LinkError(text))


def open_serial(port: SerialPort) -> serial.Serial:
    """Open a port for ourselves alone. LinkError with what to do."""
    try:
        device = serial.Serial(port.port, port.baud, timeout=0, exclusive=True)
        set_form(device, port)
    except (OSError, ValueError, termios.error) as error:
        raise LinkError(explain_serial(port, error)) from None
    with contextlib.suppress(OSError, ValueError):  # only some drivers know it
        device.set_low_latency_mode(True)
    if port.rs485:
        try:
            device.rs485_mode = serial.rs485.RS485Settings()
        except (OSError, ValueError):
            logger.warning("the port's driver cannot switch an RS-485 transceiver, going on without", port=port.port)
    return device


def set_form(device: serial.Serial, port: SerialPort) -> None:
    """Set speed and format, and let a read without data say "try again".

    With VMIN = 1 an empty read means that the device is gone (termios(3)); pyserial sets 0 with every change.
    """
    # Every line sets the port, with what stood before for the rest: what a port may refuse comes first, so that a call
    # after a refusal begins by taking that back.
    device.parity, device.bytesize, device.stopbits = port.format[1], int(port.format[0]), int(port.format[2])
    device.baudrate = port.baud
    attributes = termios.tcgetattr(device.fileno())
    attributes[6][termios.VMIN] = 1
    termios.tcsetattr(device.fileno(), termios.TCSANOW, attributes)


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
