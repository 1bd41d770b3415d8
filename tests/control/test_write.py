"""`gateway write`, through an agent and alone: what is refused, what is asked, what the device then holds."""

from __future__ import annotations

import asyncio
import os
import pty
import struct
from collections.abc import AsyncIterator
from unittest.mock import AsyncMock

import pytest

from drivers.base import BadFrame, NoReply
from gateway.clock import Clock
from gateway.control.desk import Desk
from gateway.control.write import same
from gateway.errors import LinkError
from gateway.field.poller import Poller
from gateway.field.ports import link_of


@pytest.mark.parametrize(
    ("point", "value", "held"),
    [
        ("mode", "BẬT", "bật"),
        ("mode", "0", "tắt"),
        ("level", "55.5", 55.5),
        ("name", "đèn 7", "đèn 7"),
        ("relay", "on", True),
        ("ratio", "0.123456789", pytest.approx(0.123456789, rel=1e-6)),
    ],
)
async def test_the_device_holds_what_was_written(rig, point, value, held):
    said = await rig.call("write", "lamp", point, value, "--yes")
    assert said.code == 0, said.err
    assert "the device holds it" in said.out
    assert "->" in said.out
    assert rig.held("lamp", point) == held


async def test_before_and_after_for_machines(both):
    await both.call("write", "lamp", "level", "10", "--yes")
    said = await both.call("write", "lamp", "level", "20", "--yes", "--json")
    assert said.code == 0, said.err
    assert (said.json["before"]["value"], said.json["after"]["value"], said.json["holds"]) == (10, 20, True)
    assert said.json["unit"] == "%"
    assert both.held("lamp", "level") == 20


@pytest.mark.parametrize(
    ("device", "point", "value", "words"),
    [
        ("lamp", "level", "100.1", "outside 0..100 %"),
        ("lamp", "level", "-1", "outside 0..100 %"),
        ("lamp", "level", "nan", "not a number that can be written"),
        ("lamp", "level", "55.55", "steps of 0.1"),
        ("lamp", "level", "21,5", "is not a number: write 21.5"),
        ("lamp", "mode", "blinking", "is not one of tắt, bật"),
        ("lamp", "mode", "7", "is not one of tắt, bật"),
        ("lamp", "name", "a name that is too long", "the registers hold 12"),
        ("lamp", "relay", "maybe", "is not on or off"),
        ("lamp", "temperature", "20", "is not writable"),
        ("meter", "voltage", "230", "profile and site file must both allow it"),
        ("lamp", "levl", "20", "did you mean level?"),
        ("lampp", "level", "20", "did you mean lamp?"),
    ],
)
async def test_what_is_refused_never_reaches_the_bus(rig, device, point, value, words):
    before = rig.simulator.answered, rig.held("lamp", "level")
    said = await rig.call("write", device, point, "--yes", "--", value)
    assert said.code == 2
    assert words in said.sentence
    assert (rig.simulator.answered, rig.held("lamp", "level")) == before


async def test_the_agent_itself_refuses_whatever_a_client_says(rig):
    async with rig.agent():
        await rig.ask(do="write", device="lamp", point="level", value=30)
        for value in (100.1, -1, float("nan"), float("inf"), 10**30, None, [1], {"a": 1}, "x" * 300, True):
            (told,) = await rig.ask(do="write", device="lamp", point="level", value=value)
            assert told["code"] == 2, told
        (told,) = await rig.ask(do="write", device="lamp", point="temperature", value=1)
        assert "is not writable" in told["error"]
        assert rig.held("lamp", "level") == 30
    assert "do=write" in rig.log
    assert f"uid={os.getuid()}" in rig.log
    assert "device=lamp" in rig.log


async def test_without_a_terminal_it_writes_only_with_yes(rig):
    before = rig.held("lamp", "level")
    said = await rig.call("write", "lamp", "level", "77")
    assert said.code == 2
    assert "scripts say --yes" in said.sentence
    assert rig.held("lamp", "level") == before


@pytest.mark.parametrize(("answer", "code", "held"), [(b"y\n", 0, 77), (b"n\n", 1, 0), (b"\n", 1, 0), (b"\x04", 1, 0)])
async def test_at_a_terminal_it_asks_first(rig, answer, code, held):
    await rig.call("write", "lamp", "level", "0", "--yes")
    master, slave = pty.openpty()
    process = await rig.start("write", "lamp", "level", "77", stdin=slave)
    asked = await process.stderr.readuntil(b"[y/N]")
    assert "lamp level: 0 % -> 77 %" in asked.decode()
    os.write(master, answer)
    await process.communicate()
    os.close(master)
    os.close(slave)
    assert process.returncode == code
    assert rig.held("lamp", "level") == held


async def test_everybody_on_a_line_is_written_and_nobody_asked(both):
    said = await both.call("write", "lamps", "level", "40", "--yes")
    assert said.code == 0, said.err
    assert "none of them answers" in said.out
    await asyncio.sleep(0.3)
    assert both.held("lamp", "level") == 40


async def test_a_silent_device_is_not_written(rig):
    rig.simulator.afflict("lamp", ["silence"])
    said = await rig.call("write", "lamp", "level", "50", "--yes")
    assert said.code == 1
    assert "lamp: no answer" in said.sentence


# A device of its own mind ---------------------------------------------------------------------------------------------


class Stubborn:
    """A Modbus TCP device that answers every write and keeps its value; `mute`: it does not answer writes."""

    def __init__(self, *, mute: bool = False, code: int = 0) -> None:
        self.writes = 0
        self._mute = mute
        self._code = code

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readexactly(7)
                transaction, _, size, unit = struct.unpack(">HHHB", head)
                request = await reader.readexactly(size - 1)
                reply = self._reply(request)
                if reply:
                    writer.write(struct.pack(">HHHB", transaction, 0, len(reply) + 1, unit) + reply)
        except asyncio.IncompleteReadError:
            writer.close()

    def _reply(self, request: bytes) -> bytes:
        if request[0] in (3, 4):
            count = int.from_bytes(request[3:5], "big")
            return bytes((request[0], 2 * count)) + b"\0\x64" * count
        self.writes += 1
        if self._code:
            return bytes((request[0] | 0x80, self._code))
        return b"" if self._mute else request


@pytest.fixture
async def stubborn(rig) -> AsyncIterator[object]:
    """Let such a device stand where the site file has the pump."""
    servers = []

    async def stand(device: Stubborn) -> None:
        server = await asyncio.start_server(device.serve, "127.0.0.1", 0)
        servers.append(server)
        rig.document["bus"][1]["tcp"]["port"] = server.sockets[0].getsockname()[1]
        rig.write()

    yield stand
    for server in servers:
        server.close()


async def test_a_device_that_accepts_and_does_not_hold(rig, stubborn):
    device = Stubborn()
    await stubborn(device)
    said = await rig.call("write", "pump", "level", "50", "--yes")
    assert said.code == 1
    assert "accepted 50 % and does not hold it" in said.sentence
    assert "10 % -> 10 %" in said.out
    assert device.writes == 1


async def test_a_write_that_is_not_answered_is_never_repeated(rig, stubborn):
    device = Stubborn(mute=True)
    await stubborn(device)
    said = await rig.call("write", "pump", "level", "50", "--yes")
    assert said.code == 1
    assert "may or may not have taken the value" in said.sentence
    assert "gateway read pump" in said.sentence
    assert device.writes == 1


async def test_a_write_that_the_device_refuses(rig, stubborn):
    device = Stubborn(code=4)
    await stubborn(device)
    said = await rig.call("write", "pump", "level", "50", "--yes")
    assert said.code == 1
    assert "refused with exception 4" in said.sentence
    assert device.writes == 1


@pytest.fixture
async def desk(rig) -> AsyncIterator[Desk]:
    """A desk in this process over the bus of the pump."""
    clock = Clock("system")
    bus = rig.site.buses[1]
    poller = Poller(bus, link_of(bus, clock), clock, AsyncMock(), start=clock.monotonic())
    owner = asyncio.create_task(poller.run(poll=False))
    yield Desk(rig.site, [poller], clock)
    owner.cancel()
    await asyncio.gather(owner, return_exceptions=True)


async def told(desk: Desk, **request: object) -> dict[str, object]:
    """Return the last message."""
    return [message async for message in desk.do({"do": "write", "device": "pump", "point": "level", **request})][-1]


async def test_a_device_that_was_swapped_is_not_written(rig, desk):
    assert (await told(desk, value=10))["holds"] is True
    desk.unit("pump")[1].swapped = True
    refused = await told(desk, value=20)
    assert "another device answers" in str(refused["error"])
    assert rig.held("pump", "level") == 10


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (LinkError("the port was lost"), "Whether pump has taken the value is not known"),
        (BadFrame("3 bytes"), "answered the write with a mangled frame"),
    ],
)
async def test_a_write_that_breaks_off_is_not_said_to_be_done(desk, monkeypatch, error, words):
    talks, asked = desk.pollers[0].talks, []
    ask = talks.ask

    async def break_off(talk, partner):
        asked.append(talk)
        if len(asked) == 2:  # the first asks what is there
            raise error
        return await ask(talk, partner)

    monkeypatch.setattr(talks, "ask", break_off)
    assert words in str((await told(desk, value=10))["error"])
    assert len(asked) == 2


async def test_a_device_that_falls_silent_after_the_write_has_confirmed_it(rig, desk):
    asked = 0
    talks = desk.pollers[0].talks
    ask = talks.ask

    async def fall_silent(talk, partner):
        nonlocal asked
        asked += 1
        if asked == 3:
            raise NoReply
        return await ask(talk, partner)

    talks.ask = fall_silent
    refused = await told(desk, value=10)
    assert "confirmed the write, and could not be read after it" in str(refused["error"])
    assert rig.held("pump", "level") == 10


@pytest.mark.parametrize(
    ("held", "wanted", "is_same"),
    [
        (1, 1, True),
        (True, 1, True),
        (0.1234567, 0.12345670001, True),
        (0.5, 0.6, False),
        (16777217, 16777216, False),
        ("on", "on", True),
        ("on", "off", False),
        (None, 0, False),
    ],
)
def test_what_counts_as_held(held, wanted, is_same):
    assert same(held, wanted) is is_same
