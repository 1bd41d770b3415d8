"""The desk's door on a real socket: what a client may say, and what the others and the bus feel of it."""

from __future__ import annotations

import asyncio
import grp
import json
import os
import random
import socket
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import Clock
from gateway.control import caller, door
from gateway.control.desk import OPERATIONS, Desk, operation
from gateway.errors import Declined, GatewayError
from gateway.model import Site, StoreSettings, Uplink


def site_in(folder: Path, name: str = "gw-1") -> Site:
    return Site(name, "", "system", Uplink(()), StoreSettings(path=str(folder)), ())


class Open:
    """A door on a desk without buses."""

    def __init__(self, folder: Path) -> None:
        self.site = site_in(folder)
        self.path = folder / "control.sock"

    async def client(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(self.path)

    async def talk(self, *lines: bytes) -> list[dict[str, Any]]:
        """Say lines, and return what is answered before the door has been silent."""
        reader, writer = await self.client()
        for line in lines:
            writer.write(line)
        told = []
        try:
            while line := await asyncio.wait_for(reader.readline(), 1.0):
                told.append(json.loads(line))
        except (TimeoutError, ConnectionResetError):  # silent, or closed with something unread
            pass
        finally:
            writer.close()
        return told


@pytest.fixture
async def opened(tmp_path: Path, until: Any) -> AsyncIterator[Open]:
    made = Open(tmp_path)
    serving = asyncio.create_task(door.serve(Desk(made.site, [], Clock("system")), made.path))
    await until(made.path.exists)
    yield made
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    assert not made.path.exists()


def request(number: int = 1, do: str = "hello", v: int = 1, **more: Any) -> bytes:
    return json.dumps({"v": v, "id": number, "do": do, **more}).encode() + b"\n"


async def test_hello_says_which_gateway_this_is(opened):
    told, end = await opened.talk(request(7))
    assert (told["gateway"], told["id"], told["pid"]) == ("gw-1", 7, os.getpid())
    assert end == {"id": 7, "end": True}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"\xff\xfe\x00garbage\n", "this is not JSON"),
        (b"[" * 60000 + b"\n", "this is not JSON"),
        (b"[1]\n", "one object with a number"),
        (b'{"v":1,"do":"hello"}\n', "one object with a number"),
        (request(v=2), "speaks version 1"),
        (request(do="reed"), "there is no operation 'reed': did you mean read?"),
        (request(do="x" * 60000), "there is no operation"),
        (b'{"v":1,"id":1,"do":["read"]}\n', "there is no operation"),
        (b'{"v":1,"id":1}\n', "there is no operation"),
        (request(do="read"), "'bus'"),
        (request(do="read", device=["x"]), "'device'"),
        (request(do="read", device="\ud800"), "there is no device"),
        (request(do="read", bus="line", unit="1"), "there is no bus"),
        (request(do="write", device=None), "'device'"),
        (request(do="watch", devices="all"), "list of names"),
        (request(do="watch", devices=[1]), "list of names"),
    ],
)
async def test_what_is_no_request_is_one_clear_error(opened, line, words):
    told, end = await opened.talk(line)
    assert words in told["error"]
    assert told["code"] == 2
    assert end["end"] is True
    assert len(json.dumps(told)) < 2000


async def test_garbage_does_not_end_the_conversation_but_an_endless_line_does(opened):
    told = await opened.talk(b"garbage\n", request(2))
    assert [message.get("gateway") for message in told] == [None, None, "gw-1", None]
    told = await opened.talk(b"x" * 70000 + b"\n", request(3))
    assert "longer than 65536 bytes" in told[0]["error"]
    assert not any("gateway" in message for message in told)


async def test_random_bytes_harm_nobody(opened):
    dice = random.Random(8)
    for _ in range(100):
        _, writer = await opened.client()
        writer.write(dice.randbytes(dice.randrange(1, 400)).replace(b"\n", b"x") + dice.choice([b"", b"\n", b'{"v":1']))
        writer.close()
    told, _ = await opened.talk(request())
    assert told["gateway"] == "gw-1"


async def test_at_most_16_clients_and_a_place_is_free_again_when_one_goes(opened):
    clients = [await opened.client() for _ in range(16)]
    for reader, writer in clients:
        writer.write(request())
        await reader.readline()
    told = await opened.talk(request())
    assert "16 others are connected already" in told[0]["error"]
    with pytest.raises(GatewayError, match="16 others"):
        await caller.find(opened.site)
    clients[0][1].close()
    await asyncio.sleep(0.1)
    assert (await opened.talk(request()))[0]["gateway"] == "gw-1"
    for _, writer in clients[1:]:
        writer.close()


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operations that never end."""
    monkeypatch.setitem(OPERATIONS, "wait", "here:forever")
    monkeypatch.setitem(OPERATIONS, "flood", "here:flood")
    monkeypatch.setitem(sys.modules, "here", sys.modules[__name__])
    State.begun = State.ended = 0


async def test_at_most_8_operations_at_once(opened, endless):
    told = await opened.talk(*(request(number, "wait") for number in range(9)))
    assert [message["id"] for message in told if "error" in message] == [8]
    assert "8 operations run already" in next(message["error"] for message in told if "error" in message)
    await asyncio.sleep(0.1)
    assert (State.begun, State.ended) == (8, 8)  # the client has gone, and what it asked for with it


class State:
    begun = ended = 0


async def forever(_desk: Desk, _request: Any) -> AsyncIterator[dict[str, Any]]:
    State.begun += 1
    try:
        while True:
            yield {"begun": State.begun}
            await asyncio.Event().wait()
    finally:
        State.ended += 1


async def flood(_desk: Desk, _request: Any) -> AsyncIterator[dict[str, Any]]:
    while True:
        State.begun += 1
        yield {"text": "x" * 1000}


async def test_a_client_that_does_not_read_costs_no_memory(opened, endless):
    _, writer = await opened.client()
    writer.write(request(1, "flood"))
    await asyncio.sleep(0.5)
    stuck = State.begun
    await asyncio.sleep(0.3)
    assert State.begun == stuck < 2000
    writer.close()


# The socket -----------------------------------------------------------------------------------------------------------


async def test_owner_and_group_may_connect_and_nobody_else(opened):
    facts = opened.path.stat()
    assert stat.S_IMODE(facts.st_mode) == 0o660
    try:
        wanted = grp.getgrnam("gateway").gr_gid
    except KeyError:
        wanted = os.getgid()
    assert facts.st_gid == wanted


async def test_a_living_socket_is_refused_and_a_stale_one_replaced(opened, tmp_path):
    with pytest.raises(GatewayError, match="another agent answers"):
        door.listen(opened.path)
    stale = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(stale))
    door.listen(stale).close()


def test_a_path_that_is_too_long_is_said_so(tmp_path):
    with pytest.raises(GatewayError, match="more than 107 bytes"):
        door.listen(tmp_path / ("x" * 100) / "control.sock")


def test_a_folder_that_is_not_there_is_said_so(tmp_path):
    with pytest.raises(GatewayError, match="cannot be made: No such file"):
        door.listen(tmp_path / "none" / "control.sock")


def test_systemd_says_where_the_socket_is(monkeypatch, tmp_path):
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/gateway:/run/other")
    assert door.path_of(site_in(tmp_path)) == Path("/run/gateway/control.sock")


# Finding it -----------------------------------------------------------------------------------------------------------


async def test_only_the_agent_of_this_site_is_found(opened, tmp_path):
    assert await caller.find(opened.site) == opened.path
    assert await caller.find(site_in(tmp_path, "gw-2")) is None


async def test_an_agent_that_does_not_say_a_word(tmp_path, monkeypatch):
    monkeypatch.setattr(caller, "GREETING", 0.1)
    with door.listen(tmp_path / "control.sock"), pytest.raises(GatewayError, match="does not say a word"):
        await caller.find(site_in(tmp_path))


async def test_a_socket_that_this_user_may_not_open(opened, monkeypatch):
    async def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(asyncio, "open_unix_connection", refuse)
    with pytest.raises(GatewayError, match="usermod -aG gateway"):
        await caller.find(opened.site)


async def test_a_store_too_deep_for_a_socket_is_one_without_an_agent(tmp_path):
    assert await caller.find(site_in(tmp_path / ("x" * 100))) is None


async def test_another_language_is_said_so(tmp_path):
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.vn ESMTP\n")
        writer.close()

    server = await asyncio.start_unix_server(babble, tmp_path / "control.sock")
    with pytest.raises(GatewayError, match="another language"):
        await caller.find(site_in(tmp_path))
    server.close()


def test_operations_are_imported_when_they_are_asked_for():
    assert operation("hello").__name__ == "hello"
    with pytest.raises(Declined):
        operation("__init__")


# With an agent behind it ----------------------------------------------------------------------------------------------


async def plc(rig: Any) -> dict[str, Any]:
    return next(one for one in await rig.ask(do="status") if one["bus"] == "plc" and "device" not in one)


async def test_the_bus_keeps_polling_whatever_clients_do(rig):
    async with rig.agent():
        before = now = await plc(rig)
        number = 0
        async with asyncio.timeout(30):
            while now["read"] - before["read"] < 10:
                number += 1
                _, writer = await asyncio.open_unix_connection(rig.socket)
                writer.write(request(number, "read", device="lamp") + b"\x00\xff" * number + b"\n")
                first, second = await asyncio.gather(
                    rig.ask(do="read", device="pump"), rig.ask(do="read", device="meter")
                )
                writer.transport.abort()
                for *points, end in (first, second):
                    assert {point["quality"] for point in points} == {"good"}, points
                    assert end["exchanges"] >= 1
                now = await plc(rig)
            while now["due"] != now["read"] + now["missed"]:  # a poll was under way when it was asked
                now = await plc(rig)
        assert number > 3
        assert now["missed"] == before["missed"]
    assert "never retrieved" not in rig.log


async def test_status_tells_who_is_dead_and_when_it_last_answered(rig, until):
    async with rig.agent():
        async with asyncio.timeout(20):
            while True:
                status = await rig.ask(do="status")
                devices = {one["device"]: one for one in status if "device" in one}
                if devices["ghost"]["dead"]:
                    break
                await asyncio.sleep(0.2)
        assert devices["ghost"]["last_answer_s"] is None
        assert devices["meter"]["last_answer_s"] < 5
        assert devices["meter"]["answers"] > 0
        buses = {one["bus"]: one for one in status if "device" not in one}
        assert buses["line"]["dead"] == ["ghost"]
        assert buses["line"]["up"] is True
        assert 0 < buses["line"]["load"] < 1


async def test_an_agent_whose_socket_cannot_be_made_polls_all_the_same(rig, until):
    rig.document["store"]["path"] = str(rig.folder / ("x" * 80))
    rig.write()
    with (rig.folder / "agent.log").open("wb") as log:
        agent = await rig.start("run", stderr=log)
    await until(lambda: "no verb can reach this agent" in rig.log, "the warning")
    before = rig.simulator.answered["meter"]
    await until(lambda: rig.simulator.answered["meter"] > before, "polling")
    agent.terminate()
    assert await agent.wait() == 0


# The service ----------------------------------------------------------------------------------------------------------


def test_the_service_lets_its_group_reach_the_socket_and_sees_who_asks():
    text = (Path(__file__).parents[2] / "systemd" / "gateway.service").read_text(encoding="utf-8")
    settings = [line for line in text.splitlines() if not line.startswith("#")]
    assert "RuntimeDirectory=gateway" in settings
    assert "RuntimeDirectoryMode=0750" in settings
    assert "Group=gateway" in settings
    assert not [line for line in settings if line.startswith("PrivateUsers=")]


async def test_only_an_agent_tells_of_a_store(opened: Open) -> None:
    told = await opened.talk(b'{"v": 1, "id": 1, "do": "store"}\n')
    assert told[0]["error"] == "only a running agent has a store to tell of"
    assert told[0]["code"] == 2
