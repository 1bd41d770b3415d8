"""How a verb reaches a bus: through the running agent, or by owning the port for a moment."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway import log
from gateway.app import cancel
from gateway.clock import Clock
from gateway.control import caller
from gateway.control.desk import Desk, unknown
from gateway.control.timed import nothing
from gateway.errors import ConfigError, Declined, GatewayError, LinkError
from gateway.field.poller import Poller
from gateway.field.ports import link_of
from gateway.field.talks import Partner
from gateway.model import Bus, Readings, SerialPort, Site, StoreSettings, TcpPort, Uplink
from gateway.settings import load

Ask = Callable[[dict[str, Any]], AsyncGenerator[dict[str, Any], None]]

PATIENCE = 3.0
"""Seconds for which a port that another program holds is waited for: it may be an agent that starts."""
AGAIN = 0.1
"""Seconds between two tries."""
FORMATS = tuple(f"{bits}{parity}{stop}" for bits in "78" for parity in "NEO" for stop in "12")


@asynccontextmanager
async def reach(site: Site, *, poll: bool = False) -> AsyncIterator[Ask]:
    """Yield ask(request), an iterator of messages; what fails is raised as GatewayError (Declined: exit code 2).

    Through the agent of this site when one runs; otherwise the buses that the request names (all, when it names none)
    are owned by this process while the context lasts, and polled if `poll`.
    """
    log.set_up(logging.ERROR)  # what a bus has to complain of is what the verb itself says
    here = _Here(site, poll)
    try:
        yield here.ask
    finally:
        await cancel(here.owners)


async def answer(ask: Ask, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all messages of an operation that ends."""
    async with aclosing(ask(request)) as messages:
        return [message async for message in messages]


class _Nowhere:
    """Where readings go that nobody keeps."""

    async def append(self, readings: Readings) -> None: ...

    async def append_message(self, stream: str, body: Mapping[str, Any]) -> None: ...


class _Here:
    """Asks the agent, or owns the buses in its place."""

    def __init__(self, site: Site, poll: bool) -> None:
        self.owners: list[asyncio.Task[None]] = []
        self._verb = asyncio.current_task()
        self._site = site
        self._poll = poll
        self._clock = Clock(site.clock)
        self._pollers: list[Poller] = []
        self._desk = Desk(site, self._pollers, self._clock)
        self._agent: Path | None = None
        self._owned: set[str] = set()

    async def ask(self, request: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the messages that answer a request."""
        if not self._owned and self._agent is None:
            self._agent = await self._found()
        if self._agent is None:
            await self._own(request)
        messages = self._desk.do(request) if self._agent is None else caller.connect(self._agent, request)
        async with aclosing(messages):
            async for message in messages:
                if "error" in message and "code" in message:
                    raise (Declined if message["code"] == 2 else GatewayError)(message["error"])
                yield message

    async def _found(self) -> Path | None:
        return await caller.find(self._site) if self._site.gateway else None

    async def _own(self, request: Mapping[str, Any]) -> None:
        """Own the buses that a request needs; or find the agent that owns them. LinkError when none can be used."""
        new = [bus for bus in needed(self._site, request) if bus.name not in self._owned]
        self._owned |= {bus.name for bus in new}
        troubles = await asyncio.gather(*(self._open(bus) for bus in new))
        if self._agent is not None:
            self._pollers.clear()
            await cancel(self.owners)
        elif new and all(troubles):
            raise LinkError(troubles[0])

    async def _open(self, bus: Bus) -> str:
        """Own a bus; return why its port cannot be used. An agent that appears meanwhile is taken instead."""
        until = self._clock.monotonic() + PATIENCE
        while True:
            poller, owner = self._owner(bus)
            trouble = await _trouble(poller)
            if not trouble or not _is_taken(bus) or self._clock.monotonic() > until:
                self._pollers.append(poller)
                return trouble
            await cancel([owner])
            self._agent = self._agent or await self._found()
            if self._agent is not None:
                return trouble
            await asyncio.sleep(AGAIN)

    def _owner(self, bus: Bus) -> tuple[Poller, asyncio.Task[None]]:
        """Let a task own the bus; if a bug ends it, the verb ends too."""
        if self._poll:
            bus = harmless(bus)
        start = self._clock.monotonic()
        poller = Poller(bus, link_of(bus, self._clock), self._clock, _Nowhere(), start=start)
        owner = asyncio.create_task(poller.run(poll=self._poll))
        owner.add_done_callback(lambda done: done.cancelled() or (self._verb and self._verb.cancel()))
        self.owners.append(owner)
        return poller, owner


async def _trouble(poller: Poller) -> str:
    """Wait until the port is open; return why it cannot be, "" when it is."""
    try:
        await poller.talks.ask(nothing(), Partner(poller.bus.name))
    except LinkError as error:
        return str(error)
    return ""


def _is_taken(bus: Bus) -> bool:
    """Whether a port that cannot be opened is one that this user may open: then somebody else has it."""
    return isinstance(bus.port, SerialPort) and os.access(bus.port.port, os.R_OK | os.W_OK)


def needed(site: Site, request: Mapping[str, Any]) -> list[Bus]:
    """Return the buses that a request is about."""
    if request.get("do") == "hello":
        return []
    devices = {request["device"]} if "device" in request else set(request.get("devices") or ())
    if not devices and "bus" not in request:
        return list(site.buses)
    return [
        bus
        for bus in site.buses
        if bus.name == request.get("bus") or any(device.name in devices for device in bus.devices)
    ]


def harmless(bus: Bus) -> Bus:
    """The bus without what reading clears: nobody keeps the values here, and the IOC would miss them."""
    return replace(
        bus,
        devices=tuple(
            replace(
                device,
                points=tuple(point for point in device.points if not point.read_clears),
                options={**device.options, "bridge": 0},  # nor is it read along with its neighbours
            )
            if any(point.read_clears for point in device.points)
            else device
            for device in bus.devices
        ),
    )


# A bus as a person names it -------------------------------------------------------------------------------------------


def add_port(parser: argparse.ArgumentParser) -> None:
    """Give a verb the options of a port that stands in no site file."""
    group = parser.add_argument_group("a port that is not in the site file")
    group.add_argument("--baud", type=baud, metavar="N", help="its speed (default: 9600)")
    group.add_argument("--format", choices=FORMATS, metavar="FORMAT", help="its format (default: 8N1)")
    group.add_argument("--framing", choices=("rtu", "ascii", "tcp"), help="default: rtu on a line, tcp on HOST:PORT")


def baud(text: str) -> int:
    """Read the speed of a line."""
    if not text.isdecimal() or not 300 <= int(text) <= 4_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a speed in 300..4000000")
    return int(text)


def place(
    config: Path, name: str, baud: int | None = None, form: str | None = None, framing: str | None = None
) -> tuple[Site, Bus]:
    """Find the bus that `name` means: a bus of the site file, a path of a port or HOST:PORT. Declined, ConfigError.

    A port that stands in the site file is that bus, so that it is reached through the agent that owns it; with
    `baud`, `form` or `framing` given, or without a site file, the Site is made for this bus alone.
    """
    port = _port(name)
    special = not (baud is None and form is None and framing is None)
    if port is None:
        if special:
            raise Declined(f"{name} is a bus of the site file: its speed and format stand there, leave the options out")
        site = load(config)
        for bus in site.buses:
            if bus.name == name:
                return site, bus
        text = unknown("bus", name, (bus.name for bus in site.buses))
        raise Declined(f"{text}; or write the path of a port (/dev/ttyUSB0), or HOST:PORT")
    if not special and (known := _known(config, port)):
        return known
    if isinstance(port, SerialPort):
        port = replace(port, baud=baud or port.baud, format=form or port.format)
    elif baud or form:
        raise Declined(f"{name} is no serial line: --baud and --format are set at the converter itself")
    bus = Bus(name, port, framing or ("rtu" if isinstance(port, SerialPort) else "tcp"), ())
    return Site("", "", "system", Uplink(()), StoreSettings(), (bus,)), bus


def _port(name: str) -> SerialPort | TcpPort | None:
    """Read a path or HOST:PORT; None for what can only be the name of a bus."""
    if "/" in name:
        return SerialPort(str(Path(name).absolute()))
    host, colon, port = name.rpartition(":")
    if not colon:
        return None
    if not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise Declined(f"{name!r} is neither a bus of the site file nor HOST:PORT; example: 192.168.1.20:502")
    return TcpPort(host.strip("[]"), int(port))


def _known(config: Path, port: SerialPort | TcpPort) -> tuple[Site, Bus] | None:
    """Return the bus of the site file with this port, if there is one."""
    try:
        site = load(config)
    except ConfigError:  # a port can be looked at before there is a site file that is right
        return None
    return next(((site, bus) for bus in site.buses if _same(bus.port, port)), None)


def _same(one: SerialPort | TcpPort, other: SerialPort | TcpPort) -> bool:
    if isinstance(one, SerialPort) and isinstance(other, SerialPort):
        return Path(one.port).resolve() == Path(other.port).resolve()
    return isinstance(one, TcpPort) and isinstance(other, TcpPort) and (one.host, one.port) == (other.host, other.port)
