"""Field devices behind a TCP port: Modbus TCP, or a serial converter that passes RTU through."""

from __future__ import annotations

import asyncio
from typing import cast

from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.model import TcpPort
from gateway.simulator.device import FakeBus
from gateway.simulator.wire import NotModbus, requests

_MOST_CLIENTS = 64


class TcpDoor:
    """One listening port, and the devices behind it."""

    def __init__(self, devices: FakeBus, port: TcpPort, clock: Clock) -> None:
        self._devices, self._clock, self._port = devices, clock, port
        self._clients: set[asyncio.Transport] = set()
        self.address = f"{port.host}:{port.port}"

    async def open(self) -> None:
        """Listen. GatewayError when this machine has no such address or the port is taken."""
        try:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: _Client(self._devices, self._clock, self._clients), self._port.host, self._port.port
            )
        except OSError as error:
            raise GatewayError(
                f"{self.address} cannot be listened on: {error.strerror or error}. The address must be one of this "
                "machine, the port free, and above 1023 unless you are root. Try 127.0.0.1 and port 5020."
            ) from error
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = f"{host}:{port}"

    async def serve(self) -> None:
        """Accept clients until cancelled."""
        await self._server.serve_forever()

    async def close(self) -> None:
        """Stop listening and leave all clients."""
        self._server.close()
        for client in tuple(self._clients):
            client.abort()
        await asyncio.sleep(0)  # the turn of the loop in which the aborted connections go
        await self._server.wait_closed()


class _Client(asyncio.Protocol):
    """One connection. Answers at once; a client that does not read its replies is not read either."""

    def __init__(self, devices: FakeBus, clock: Clock, clients: set[asyncio.Transport]) -> None:
        self._devices, self._clock, self._clients = devices, clock, clients
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
        now, replies = self._clock.mono_ms(), []
        try:
            for request in requests(self._devices.framing, self._buffer):
                reply = self._devices.respond(request, now)
                if reply is not None:
                    replies.append(reply.frame)
        except NotModbus:
            self._transport.abort()
            return
        if replies:
            self._transport.write(b"".join(replies))

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()
