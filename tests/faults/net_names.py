"""N10: the name of the broker cannot be resolved, resolves slowly, or to another machine."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from catalogue import NotHere, Outcome, Round, fault
from namespace import namespace
from proxy import Proxy
from stage import stage

NAME = "broker.city.test"
FAILS, SILENT, ONLY_V6, MOVED = "fails", "silent", "only v6", "moved"
SLOW = 3.0
"""Seconds: longer than the resolver in the namespace waits for one try."""
WRONG = ((FAILS, 0.0), (SILENT, 0.0), ("", SLOW), (ONLY_V6, 0.0), (MOVED, 0.0))


@dataclass
class Names(asyncio.DatagramProtocol):
    """A DNS server for one name. `mode` is what goes wrong; `asked` counts questions."""

    address: str
    mode: str = ""
    delay: float = 0.0
    asked: int = 0
    _transport: asyncio.DatagramTransport | None = field(default=None)

    def connection_made(self, transport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr) -> None:
        self.asked += 1
        if self.mode != SILENT:
            asyncio.get_running_loop().call_later(self.delay, self._answer, data, addr)

    def _answer(self, question: bytes, addr) -> None:
        """RFC 1035: the question again, and an A or AAAA record."""
        if not self._transport or self._transport.is_closing():
            return
        end = question.index(b"\0", 12) + 5
        (kind,) = struct.unpack_from("!H", question, end - 4)
        record = b""
        if self.mode != FAILS and (kind == 1) == (self.mode != ONLY_V6):
            packed = socket.inet_pton(*((socket.AF_INET, self.address) if kind == 1 else (socket.AF_INET6, "fd00::1")))
            record = struct.pack("!HHHIH", 0xC00C, kind, 1, 1, len(packed)) + packed if kind in (1, 28) else b""
        flags = 0x8182 if self.mode == FAILS else 0x8180
        head = struct.pack("!HHHHHH", int.from_bytes(question[:2], "big"), flags, 1, bool(record), 0, 0)
        self._transport.sendto(head + question[12:end] + record, addr)


@contextlib.asynccontextmanager
async def serving(address: str, answer: str) -> AsyncIterator[Names]:
    names = Names(answer)
    try:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: names, local_addr=(address, 53)
        )
    except OSError as error:
        raise NotHere(f"no DNS server can listen: {error}") from error
    try:
        yield names
    finally:
        transport.close()


@fault(
    "N10",
    "DNS fails, is silent, slow, IPv6 only, or names another machine (network namespace)",
    "polling goes on, the last good address is used, a new one is taken up",
    times=5,
)
async def names_go_wrong(round_: Round) -> Outcome:
    slowest = 0.0
    with namespace(resolver=True) as net:
        here, there = (Proxy(0, host=host, toward=net.uplink) for host in (net.uplink, net.spare))
        async with contextlib.AsyncExitStack() as stack:
            names = await stack.enter_async_context(serving(net.uplink, net.uplink))
            for machine in (here, there):
                stack.push_async_callback(machine.stop)
            await here.start()
            there.port = here.port
            url = f"mqtt://{NAME}:{here.port}"
            s = await stack.enter_async_context(stage(round_.folder, every="200ms", url=url, net=net))
            here.target = there.target = s.broker.port
            await s.start()
            await s.recovered()
            for turn in range(round_.times):
                names.mode, names.delay = WRONG[turn % len(WRONG)]
                if names.mode == MOVED:
                    here, there = there, here
                    names.address = here.host
                    await here.start()
                    await there.refuse()
                await here.cut()
                slowest = max(slowest, await s.recovered(90))
                names.mode, names.delay = "", 0.0
            await s.stop()
            note = f"{names.asked} questions to the name server"
            return await s.outcome(round_.times, recovered=slowest, note=note)
