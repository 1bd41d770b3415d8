"""Field devices behind a TCP port: Modbus TCP, or a serial converter that passes RTU through."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import cast

from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.model import TcpPort
from gateway.simulator.bus import FakeBus
from gateway.simulator.pace import Pace
from gateway.simulator.wire import Delivery, NotModbus, requests

_MOST_CLIENTS = 64
_UNREAD = 65536  # bytes of babble that a client may leave unread


class TcpDoor:
    """One listening port, and the devices behind it."""

    def __init__(self, devices: FakeBus, port: TcpPort, clock: Clock) -> None:
        self._devices, self._clock, self._port = devices, clock, port
        self.pace = Pace(clock)
        self._clients: set[asyncio.Transport] = set()
        self.address = f"{port.host}:{port.port}"

    async def open(self) -> None:
        """Listen. GatewayError when this machine has no such address or the port is taken."""
        try:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: _Client(self._devices, self._clock, self.pace, self._clients), self._port.host, self._port.port
            )
        except OSError as error:
            raise GatewayError(
                f"{self.address} cannot be listened on: {error.strerror or error}. The address must be one of this "
                "machine, the port free, and above 1023 unless you are root. Try 127.0.0.1 and port 5020."
            ) from error
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = f"{host}:{port}"
        self._port = replace(self._port, port=port)  # a door that opens again is the same door

    async def serve(self) -> None:
        """Serve clients, and do what the line does unasked, until cancelled."""
        await self.pace.watch(self._devices, self._plug, self._flood)

    async def _plug(self, there: bool) -> None:
        await (self.open() if there else self.close())

    def _flood(self, data: bytes) -> None:
        for client in self._clients:
            if client.get_write_buffer_size() < _UNREAD:
                client.write(data)

    async def close(self) -> None:
        """Stop listening and leave all clients."""
        self.pace.forget()
        self._server.close()
        for client in tuple(self._clients):
            client.abort()
        await asyncio.sleep(0)  # the turn of the loop in which the aborted connections go
        await self._server.wait_closed()


class _Client(asyncio.Protocol):
    """One connection. A client that does not read its replies is not read either."""

    def __init__(self, devices: FakeBus, clock: Clock, pace: Pace, clients: set[asyncio.Transport]) -> None:
        self._devices, self._clock, self._pace, self._clients = devices, clock, pace, clients
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if len(self._clients) >= _MOST_CLIENTS:
            self._transport.abort()
        else:
            self._clients.add(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._clients.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        now, plan = self._clock.monotonic(), list[Delivery]()
        try:
            for request in requests(self._devices.framing, self._buffer):
                plan += self._devices.reply(request, now)
        except NotModbus:
            self._transport.abort()
            return
        self._pace.carry(plan, self._write)

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()
