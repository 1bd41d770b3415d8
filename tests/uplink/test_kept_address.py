"""A broker's name that suddenly leads nowhere: the address that has worked is tried too."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from gateway.uplink.names import Line, Names, Way


@pytest.fixture
async def listening():
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


def resolving(*addresses: str) -> Names:
    """Names of which the resolver knows these addresses."""
    answer: list[Any] = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]
    return Names(lambda *_, **__: answer)


async def test_an_address_that_leads_nowhere_is_followed_by_the_one_that_has_worked(listening):
    names = resolving("127.0.0.2")
    names.worked("broker", "127.0.0.1")
    line = Line(Way(names), "broker", listening, 60.0)
    await line.open()
    assert line.address == ("127.0.0.1", listening)
    line.cut()


async def test_the_new_address_comes_first(listening):
    names = resolving("127.0.0.1")
    names.worked("broker", "127.0.0.2")
    line = Line(Way(names), "broker", listening, 60.0)
    await line.open()
    assert line.address == ("127.0.0.1", listening)
    line.cut()


async def test_without_one_that_has_worked_the_error_is_that_of_the_new_one(listening):
    with pytest.raises(ConnectionRefusedError):
        await Line(Way(resolving("127.0.0.2")), "broker", listening, 60.0).open()
