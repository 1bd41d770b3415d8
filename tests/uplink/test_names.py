"""From a name to a socket: a resolver that fails, hangs or lies costs neither the connection nor the loop's threads."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

from gateway.errors import UplinkError
from gateway.model import Uplink
from gateway.uplink import names as names_module
from gateway.uplink.mqtt import Session
from gateway.uplink.names import Names, Way, dial


class Resolver:
    """Answers what the test says: addresses, an error, or nothing until it is let go."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.error: Exception | None = None
        self.answer = threading.Event()
        self.answer.set()
        self.asked = 0

    def __call__(self, host: str, port: int, **_: Any) -> list[Any]:
        self.asked += 1
        self.answer.wait(20)
        if self.error:
            raise self.error
        return [(0, 0, 0, "", (address, 0)) for address in self.addresses]


async def connected(broker: Any, resolver: Resolver, names: Names, **access: Any) -> Session:
    url = f"mqtt://broker.example:{broker.port}"
    return await Session.open(url, Uplink((url,), **access), "a", way=Way(names))


async def test_addresses_come_by_turns_of_their_family() -> None:
    names = Names(Resolver("10.0.0.1", "10.0.0.2", "10.0.0.1", "fd00::1"))
    assert await names.find("x", 1883) == [("10.0.0.1", 1883), ("fd00::1", 1883), ("10.0.0.2", 1883)]


async def test_the_last_good_address_is_used_when_the_resolver_fails(fake_broker: Any) -> None:
    resolver = Resolver("127.0.0.1")
    names = Names(resolver)
    await (await connected(fake_broker, resolver, names)).close()
    assert names.good == {"broker.example": ["127.0.0.1"]}
    resolver.error = socket.gaierror(socket.EAI_NONAME, "no such name")
    await (await connected(fake_broker, resolver, names)).close()
    assert len(fake_broker.connects) == 2
    with pytest.raises(UplinkError, match="cannot be resolved"):
        await connected(fake_broker, resolver, Names(resolver))


async def test_what_an_earlier_run_has_found_is_used(fake_broker: Any) -> None:
    resolver = Resolver()
    resolver.error = socket.gaierror(socket.EAI_AGAIN, "try again")
    names = Names(resolver)
    names.restore({"broker.example": ["127.0.0.1"]})
    await (await connected(fake_broker, resolver, names)).close()


async def test_a_resolver_that_hangs_has_one_thread_and_a_bound(
    fake_broker: Any, monkeypatch: pytest.MonkeyPatch, until: Any
) -> None:
    monkeypatch.setattr(names_module, "RESOLVE_WITHIN", 0.1)
    resolver = Resolver("127.0.0.1")
    names = Names(resolver)
    await (await connected(fake_broker, resolver, names)).close()
    resolver.answer.clear()
    for _ in range(5):
        await (await connected(fake_broker, resolver, names)).close()
    assert resolver.asked == 2, "one thread for all attempts"
    with pytest.raises(socket.gaierror, match="does not answer"):
        await names.find("other.example", 1)
    await asyncio.wait_for(asyncio.gather(*(asyncio.to_thread(int) for _ in range(64))), 5)
    resolver.answer.set()
    await until(lambda: not names._asked, "the late answers")
    assert await names.find("other.example", 1) == [("127.0.0.1", 1)]


async def test_a_slow_resolver_is_joined_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that always takes longer than the bound must not keep the gateway out for ever."""
    monkeypatch.setattr(names_module, "RESOLVE_WITHIN", 0.1)
    resolver = Resolver("127.0.0.1")
    names = Names(resolver)
    resolver.answer.clear()
    with pytest.raises(socket.gaierror):
        await names.find("x", 1)
    asyncio.get_running_loop().call_later(0.02, resolver.answer.set)
    assert await names.find("x", 1) == [("127.0.0.1", 1)]
    assert resolver.asked == 1


async def test_an_address_that_does_not_answer_is_passed_over(fake_broker: Any, free_port: Any) -> None:
    """The first is a listener with a full queue (its SYN stays unanswered), the second refuses, the third is it."""
    deaf = socket.socket()
    deaf.bind(("127.0.0.2", fake_broker.port))
    deaf.listen(0)
    fillers = [socket.socket() for _ in range(3)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(("127.0.0.2", fake_broker.port))
    resolver = Resolver("127.0.0.2", "127.0.0.3", "::1", "127.0.0.1")
    names = Names(resolver)
    session = await asyncio.wait_for(connected(fake_broker, resolver, names), 5)
    assert names.good == {"broker.example": ["127.0.0.1"]}
    await session.close()
    for one in (deaf, *fillers):
        one.close()


async def test_the_first_failure_is_told_when_none_answers(free_port: Any) -> None:
    with pytest.raises(ConnectionRefusedError):
        await dial([("127.0.0.1", free_port()), ("127.0.0.2", free_port())], 60.0)
    with pytest.raises(OSError, match="no address"):
        await dial([], 60.0)


async def test_ipv6_only(until: Any) -> None:
    seen = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("peername")[0])
        writer.close()

    server = await asyncio.start_server(serve, "::1", 0)
    async with server:
        connection = await dial([("::1", server.sockets[0].getsockname()[1])], 60.0)
        await until(lambda: seen == ["::1"], "the connection")
        connection.close()


async def test_a_good_address_outlives_the_agent(mosquitto: Any, rig: Any, until: Any) -> None:
    broker = mosquitto()
    url = f"mqtt://localhost:{broker.port}"
    gateway = rig(url)
    await gateway.start()
    await until(lambda: gateway.publisher.online, "the connection")
    await gateway.stop()
    again = rig(url)
    await again.start()
    await until(lambda: again.publisher.online, "the connection")
    assert again.publisher._way.names.good == gateway.publisher._way.names.good
    assert again.publisher._way.names.good["localhost"]
    state = await again.store.load_state("uplink")
    assert state["names"]["localhost"] == ["127.0.0.1"]
