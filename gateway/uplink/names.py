"""From a broker's name to an open socket: names resolved beside the loop, the last good addresses kept.

A resolver cannot be interrupted, so each name has one thread of its own at most; the loop's few threads stay free.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import ssl
import sys
import termios
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.certificates import Validity, validity
from gateway.clock import Clock

RESOLVE_WITHIN = 5.0
DIAL_WITHIN = 5.0
"""Seconds that new addresses are given where others have worked before."""
STAGGER = 0.3
"""Seconds that one address is given before the next is tried beside it (RFC 8305 asks for a quarter of a second)."""
_MOST = 8

Address = tuple[str, int]
"""Numeric address and port."""


class Names:
    """The addresses of hosts. `resolve` is the system's, unless a test has its own."""

    def __init__(self, resolve: Callable[..., Sequence[Any]] | None = None) -> None:
        self._resolve = resolve
        self._asked: dict[str, asyncio.Future[list[str]]] = {}
        self._good: dict[str, list[str]] = {}

    async def find(self, host: str, port: int) -> list[Address]:
        """Addresses of a host, those of now, or the last good ones when the resolver fails or is slow.

        OSError or UnicodeError when there are no good ones: what the resolver said.
        """
        asked = self._asked.get(host)
        if asked is None or asked.get_loop() is not asyncio.get_running_loop():
            asked = self._asked[host] = self._ask(host)
        try:
            async with asyncio.timeout(RESOLVE_WITHIN):
                found = await asyncio.shield(asked)
        except (OSError, UnicodeError) as error:
            if host not in self._good:
                if isinstance(error, TimeoutError):
                    raise socket.gaierror(socket.EAI_AGAIN, "the resolver does not answer") from None
                raise
            found = self._good[host]
        return [(address, port) for address in found]

    def worked(self, host: str, address: str) -> None:
        """A broker has accepted a connection there."""
        before = self._good.get(host, [])
        if before[:1] != [address]:
            self._good[host] = [address, *(other for other in before if other != address)][:_MOST]

    @property
    def good(self) -> dict[str, list[str]]:
        """Host -> the addresses that have worked, the latest first."""
        return {host: list(addresses) for host, addresses in self._good.items()}

    def restore(self, good: Mapping[str, Sequence[str]]) -> None:
        """Go on from what an earlier run has found."""
        self._good = {host: list(addresses)[:_MOST] for host, addresses in good.items()} | self._good

    def _ask(self, host: str) -> asyncio.Future[list[str]]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[str]] = loop.create_future()

        def ask() -> None:
            found: list[str] | Exception
            try:
                found = _addresses((self._resolve or socket.getaddrinfo)(host, 0, type=socket.SOCK_STREAM))
            except (OSError, UnicodeError) as error:
                found = error
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                loop.call_soon_threadsafe(self._answered, host, future, found)

        threading.Thread(target=ask, name="resolver", daemon=True).start()
        return future

    def _answered(self, host: str, future: asyncio.Future[list[str]], found: list[str] | Exception) -> None:
        if self._asked.get(host) is future:
            del self._asked[host]
        if isinstance(found, Exception):
            future.set_exception(found)
            future.exception()  # seen, should nobody wait for it any more
        else:
            future.set_result(found)


@dataclass(frozen=True)
class Way:
    """How connections are made: `spent` is told the bytes that they cost, `clock` gives the date for what is said."""

    names: Names = field(default_factory=Names)
    spent: Callable[[int], None] = lambda _: None
    clock: Clock | None = None


class Line:
    """The way of one attempt to the broker's machine. The MQTT client shakes hands over it, in a thread."""

    def __init__(self, way: Way, host: str, port: int, keepalive: float) -> None:
        self._way, self._host, self._port, self._keepalive = way, host, port, keepalive
        self._socket: socket.socket | None = None
        self._grip: socket.socket | None = None
        self._address = ""

    async def open(self) -> None:
        """Resolve the name and connect: where its addresses lead nowhere, to the last good ones.

        OSError or UnicodeError says why not.
        """
        names = self._way.names
        addresses = await names.find(self._host, self._port)
        kept = [(good, self._port) for good in names.good.get(self._host, ()) if (good, self._port) not in addresses]
        try:
            async with asyncio.timeout(DIAL_WITHIN if kept else None):
                self._socket = await dial(addresses, self._keepalive)
        except OSError:
            if not kept:
                raise
            self._socket = await dial(kept, self._keepalive)
        self._grip = self._socket.dup()
        self._address = self._socket.getpeername()[0]

    @property
    def socket(self) -> socket.socket:
        """The connected socket. Whoever wraps it takes it over."""
        assert self._socket, "it was opened before"
        return self._socket

    @property
    def address(self) -> Address:
        """Where it leads."""
        return self._address, self._port

    def accepted(self) -> None:
        """The broker has answered there: the address is good. It is from now on the client's alone."""
        self._way.names.worked(self._host, self._address)
        self._let_go()

    def cut(self) -> None:
        """End it for whoever uses it, also in the middle of a handshake."""
        if self._grip:
            with contextlib.suppress(OSError):  # it may have ended already
                self._grip.shutdown(socket.SHUT_RDWR)
        self._let_go()
        if self._socket:
            self._socket.close()

    def _let_go(self) -> None:
        if self._grip:
            self._grip.close()
            self._grip = None


async def dial(addresses: Sequence[Address], keepalive: float) -> socket.socket:
    """Connect to the first address that answers: each is tried beside those before it. OSError of the first one."""
    rest = list(addresses)
    tries: list[asyncio.Task[socket.socket]] = []
    try:
        while rest or not all(one.done() for one in tries):
            if rest:
                tries.append(asyncio.ensure_future(_connect(*rest.pop(0), keepalive)))
            waiting = [one for one in tries if not one.done()]
            await asyncio.wait(waiting, timeout=STAGGER if rest else None, return_when=asyncio.FIRST_COMPLETED)
            for one in tries:
                if one.done() and not one.exception():
                    tries.remove(one)
                    return one.result()
        raise (tries[0].exception() if tries else None) or OSError("the name has no address")
    finally:
        for one in tries:
            one.cancel()
        for late in await asyncio.gather(*tries, return_exceptions=True):
            if isinstance(late, socket.socket):
                late.close()


async def _connect(address: str, port: int, keepalive: float) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    connected = False
    try:
        connection.setblocking(False)
        for option in _options(keepalive):
            connection.setsockopt(*option)
        await asyncio.get_running_loop().sock_connect(connection, (address, port))
        connected = True
        return connection
    finally:
        if not connected:
            connection.close()


def unsent(connection: socket.socket) -> int:
    """Bytes that the peer's TCP has not acknowledged (SIOCOUTQ)."""
    try:
        return int.from_bytes(fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except (OSError, ValueError):
        return 0


def shown_by(connection: Any) -> Validity | None:
    """From when until when the other side's certificate is valid; None without TLS."""
    shown = connection.getpeercert(binary_form=True) if isinstance(connection, ssl.SSLSocket) else None
    try:
        return validity(shown) if shown else None
    except ValueError:  # OpenSSL has accepted it: it must not end a good connection
        return None


def _addresses(found: Sequence[Any]) -> list[str]:
    """Distinct numeric addresses, in the resolver's order, the two families by turns (RFC 8305 section 4)."""
    distinct = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    first = [one for one in distinct if (":" in one) == (":" in distinct[0])]
    second = [one for one in distinct if one not in first]
    mixed = [one for pair in zip(first, second, strict=False) for one in pair]
    return [*mixed, *first[len(second) :], *second[len(first) :]][:_MOST]


def _options(keepalive: float) -> list[tuple[int, int, int]]:
    """Small messages leave at once; a dead peer is noticed half a keepalive after data that nobody acknowledged."""
    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        options.append((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1000, int(keepalive * 500))))
    return options
