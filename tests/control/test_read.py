"""`gateway read`, through an agent and alone."""

from __future__ import annotations

import asyncio
import os
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from drivers.base import Point
from drivers.modbus.register import Register
from gateway import log
from gateway.cli.reach import answer, harmless, reach
from gateway.cli.read_view import is_plausible, readings
from gateway.clock import Clock
from gateway.control import door
from gateway.control.desk import Desk
from gateway.control.read import chosen, groups
from gateway.field.poller import Poller
from gateway.field.unit import Unit
from gateway.model import Bus, Device, TcpPort

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")


async def test_a_device_is_asked_now(both):
    before = both.simulator.answered["meter"]
    said = await both.call("read", "meter", "voltage", "frequency", "--json")
    assert said.code == 0, said.err
    assert [point["point"] for point in said.json["points"]] == ["voltage", "frequency"]
    assert {point["quality"] for point in said.json["points"]} == {"good"}
    assert said.json["points"][0]["unit"] == "V"
    assert 200 < said.json["points"][0]["value"] < 260
    assert said.json["took_ms"] > 1
    assert both.simulator.answered["meter"] > before


async def test_people_see_a_table_in_their_own_words(both):
    said = await both.call("read", "lamp")
    assert said.code == 0
    assert "tắt" in said.out or "bật" in said.out
    assert "\x1b" not in said.out
    assert "ms on the bus" in said.out
    assert said.err == ""


async def test_a_device_that_does_not_answer(both):
    said = await both.call("read", "ghost", "voltage", "current")
    assert said.code == 1
    assert "bad:timeout" in said.out
    assert "check the power of the device, its address" in said.out
    assert said.err == ""


async def test_a_refused_point_is_explained_and_the_others_are_good(both):
    both.simulator.afflict("meter", ["exception code=2"])
    said = await both.call("read", "meter", "voltage")
    assert said.code == 1
    assert "bad:exception-2" in said.out
    assert "no such register: check table, address and profile" in said.out
    mixed = await both.call("read", "lamp", "--json")
    assert mixed.code == 0


async def test_mangled_answers_are_explained(rig):
    rig.simulator.afflict("meter", ["crc"])
    said = await rig.call("read", "meter", "voltage")
    assert said.code == 1
    assert "bad:crc" in said.out
    assert "termination" in said.out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("metre",), "there is no device 'metre': did you mean meter?"),
        (("meter", "voltag"), "there is no point 'voltag': did you mean voltage?"),
        (("lamps",), "nothing answers address 0"),
        (("lyne", "--unit", "1", "--holding", "0"), "there is no bus 'lyne': did you mean line?"),
        (("line", "--unit", "0", "--holding", "0"), "1..247"),
        (("line", "--unit", "1"), "--holding 0:10"),
        (("line", "voltage", "--unit", "1", "--holding", "0"), "point of a device"),
        (("line", "--unit", "1", "--holding", "0", "--baud", "9600"), "leave the options out"),
        (("meter", "--holding", "0"), "say which with --unit"),
        (("/dev/ttyUSB0",), "say which unit"),
        (("127.0.0.1:99999", "--unit", "1", "--holding", "0"), "HOST:PORT"),
        (("127.0.0.1:502", "--unit", "1", "--holding", "0", "--baud", "9600"), "no serial line"),
    ],
)
async def test_wrong_usage_is_one_sentence_and_exit_code_2(rig, args, words):
    said = await rig.call("read", *args)
    assert said.code == 2
    assert words in said.sentence


@pytest.mark.parametrize("span", ["0:126", "0:0", "65535:2", "65536", "-1", "x", "1:", "1:2:3"])
async def test_spans_that_cannot_be_read_are_wrong_usage(span, rig):
    said = await rig.call("read", "line", "--unit", "1", f"--holding={span}")
    assert said.code == 2
    assert "--holding" in said.err
    assert "Traceback" not in said.err


# Any unit -------------------------------------------------------------------------------------------------------------


async def test_raw_registers_are_what_the_device_holds(both):
    said = await both.call("read", "line", "--unit", "1", "--input", "0:2", "--json")
    assert said.code == 0, said.err
    held = struct.unpack(">f", struct.pack(">2H", *said.json["values"]))[0]
    assert held == pytest.approx(both.held("meter", "voltage"), abs=5)
    shown = await both.call("read", "line", "--unit", "1", "--input", "0:3")
    assert all(word in shown.out for word in ("ABCD", "CDAB", "BADC", "DCBA", "u32", "s32", "f32"))
    later = await both.call("read", "line", "--unit", "1", "--input", "0:2", "--json")
    words = shown.out.split()
    assert {str(said.json["values"][0]), str(later.json["values"][0])} & set(words), "the value moves on meanwhile"


async def test_bits_of_a_coil_table(both):
    said = await both.call("read", "line", "--unit", "2", "--coil", "0", "--json")
    assert said.code == 0, said.err
    assert said.json["values"] in ([0], [1])
    shown = await both.call("read", "line", "--unit", "2", "--coil", "0:1")
    assert shown.out.split()[1] == str(said.json["values"][0])


async def test_a_refused_range_is_one_sentence(both):
    said = await both.call("read", "line", "--unit", "2", "--holding", "9000:2")
    assert said.code == 1
    assert "exception 2" in said.sentence
    assert "check table, address and profile" in said.sentence


async def test_a_unit_that_is_not_there_is_one_sentence(both):
    said = await both.call("read", "line", "--unit", "77", "--holding", "0")
    assert said.code == 1
    assert "unit 77: no answer" in said.sentence


async def test_what_a_unit_says_of_itself(both):
    both.simulator.afflict("meter", ["identity vendor=Eastron product=SDM120 revision=1.2"])
    said = await both.call("read", "line", "--unit", "1", "--identify", "--json")
    assert said.code == 0, said.err
    assert said.json["identity"]["vendor"] == "Eastron"
    counted = await both.call("read", "line", "--unit", "1", "--counters", "--json")
    assert counted.code == 0
    assert counted.json["counters"]["messages to this unit"] > 0


async def test_a_unit_that_cannot_say_who_it_is(rig):
    rig.simulator.afflict("lamp", ["exception code=1"])
    said = await rig.call("read", "line", "--unit", "2", "--identify")
    assert said.code == 1
    assert "cannot say what it is" in said.sentence
    assert (await rig.call("read", "line", "--unit", "2", "--counters")).code == 1


async def test_a_port_needs_no_site_file(rig):
    none = ("--config", str(rig.folder / "none.toml"))
    serial = await rig.call("read", str(rig.tty), "--unit", "1", "--input", "0:2", "--baud", "115200", *none)
    assert serial.code == 0, serial.err
    tcp = await rig.call("read", rig.tcp, "--unit", "1", "--input", "0", "--json", *none)
    assert tcp.code == 0, tcp.err
    assert tcp.json["bus"] == rig.tcp


async def test_the_port_of_a_bus_is_reached_through_the_agent(rig):
    async with rig.agent():
        serial = await rig.call("read", str(rig.tty), "--unit", "1", "--input", "0:2", "--json")
        tcp = await rig.call("read", rig.tcp, "--unit", "1", "--input", "0", "--json")
    assert (serial.json["bus"], tcp.json["bus"]) == ("line", "plc")


# Trouble with ports ---------------------------------------------------------------------------------------------------


@asynccontextmanager
async def holding(path: Path) -> AsyncIterator[None]:
    """Let another program hold a port."""
    program = (
        f"import serial, sys\ns = serial.Serial({str(path)!r}, exclusive=True)\nprint(1, flush=True); sys.stdin.read()"
    )
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert other.stdin is not None
    assert other.stdout is not None
    await other.stdout.readline()
    yield
    other.stdin.close()
    await other.wait()


async def test_a_port_that_another_program_holds(rig):
    async with holding(rig.tty):
        said = await rig.call("read", "meter", "voltage")
        assert said.code == 1
        assert "is in use by another program" in said.sentence
        waiting = asyncio.create_task(rig.call("read", "meter", "voltage"))
        await asyncio.sleep(1.0)
    assert (await waiting).code == 0


class Started(Desk):
    """The desk of an agent that has the port, as far as a verb sees it."""

    async def do(self, request: Any) -> AsyncIterator[dict[str, Any]]:
        if request["do"] == "hello":
            yield {"gateway": self.site.gateway}
        else:
            yield {"point": "voltage", "value": 1, "unit": "V", "quality": "good", "why": ""}
            yield {"device": "meter", "bus": "line", "took_ms": 1.0, "exchanges": 1}


async def test_an_agent_that_starts_meanwhile_is_asked(rig):
    rig.socket.parent.mkdir()
    async with holding(rig.tty):
        waiting = asyncio.create_task(rig.call("read", "meter", "voltage", "--json"))
        await asyncio.sleep(1.0)
        serving = asyncio.create_task(door.serve(Started(rig.site, [], Clock("system")), rig.socket))
        said = await waiting
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
    assert said.code == 0, said.err
    assert said.json["points"][0]["value"] == 1


async def test_a_verb_and_an_agent_that_starts_do_not_harm_each_other(rig):
    waiting = asyncio.create_task(rig.call("read", "meter", "voltage"))
    async with rig.agent():
        assert (await waiting).code == 0
        async with asyncio.timeout(20):
            while (await rig.call("read", "meter", "voltage")).code != 0:
                await asyncio.sleep(0.2)


async def test_a_port_that_does_not_exist(rig):
    said = await rig.call("read", str(rig.folder / "ttyUSB9"), "--unit", "1", "--holding", "0")
    assert said.code == 1
    assert "does not exist: is the adapter plugged in?" in said.sentence


async def test_a_host_that_refuses(rig, free_port):
    said = await rig.call("read", f"127.0.0.1:{free_port()}", "--unit", "1", "--holding", "0")
    assert said.code == 1
    assert "nothing listens on port" in said.sentence


@ROOT_ONLY
def test_a_port_that_this_user_may_not_open(tmp_path):
    master, slave = os.openpty()
    Path(os.ttyname(slave)).chmod(0o600)
    become = (
        "import sys, os, encodings.ascii; import gateway.cli.read, gateway.cli.reach, gateway.cli.read_view; "
        "import drivers.modbus.driver, gateway.control.read; from gateway.__main__ import main; "
        "os.seteuid(65534); sys.exit(main(sys.argv[1:]))"
    )
    args = ("read", os.ttyname(slave), "--unit", "1", "--holding", "0", "--config", str(tmp_path / "none"))
    said = subprocess.run(
        [sys.executable, "-c", become, *args], capture_output=True, text=True, timeout=30, check=False
    )
    os.close(master)
    os.close(slave)
    assert said.returncode == 1
    assert "may not be opened: add the user to the group" in said.stderr
    assert len(said.stderr.strip().splitlines()) == 1


async def test_an_agent_whose_port_is_missing_says_so(rig):
    port = {"port": str(rig.folder / "ttyUSB9"), "baud": 9600}
    device = {"name": "lost", "profile": "eastron-sdm120", "address": 1}
    rig.document["bus"].append({"name": "unplugged", "serial": port, "device": [device]})
    rig.write()
    async with rig.agent():
        said = await rig.call("read", "lost", "voltage")
        assert said.code == 1
        assert "does not exist: is the adapter plugged in?" in said.sentence
        assert (await rig.call("read", "meter", "voltage")).code == 0


async def test_a_line_with_nothing_on_it(rig):
    master, slave = os.openpty()
    said = await rig.call("read", os.ttyname(slave), "--unit", "1", "--holding", "0", "--baud", "115200")
    os.close(master)
    os.close(slave)
    assert said.code == 1
    assert "no answer" in said.sentence


async def test_a_bug_in_the_owner_of_a_bus_ends_the_verb(rig, monkeypatch):
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Poller, "run", broken)
    monkeypatch.setattr(log, "set_up", lambda *_: None)  # it would silence the tests that come after

    async def verb() -> None:
        async with reach(rig.site) as ask:
            await answer(ask, {"do": "read", "device": "meter"})

    with pytest.raises(RuntimeError, match="a bug"):
        await asyncio.wait_for(verb(), 5)


# Looking at numbers ---------------------------------------------------------------------------------------------------


def test_four_bytes_in_every_reading():
    assert readings(bytes.fromhex("43663333")) == [("1130771251", ""), ("1130771251", ""), ("230.2", "bold green")]
    assert readings(bytes.fromhex("FFFFFFFF")) == [("4294967295", ""), ("-1", ""), ("nan", "dim")]


@pytest.mark.parametrize(
    ("number", "plausible"),
    [(230.2, True), (-0.5, True), (0.0, False), (1e-5, False), (1e9, False), (float("inf"), False)],
)
def test_which_floats_a_sensor_may_send(number, plausible):
    assert is_plausible(number) is plausible


# What reading clears --------------------------------------------------------------------------------------------------


def clearing() -> Device:
    points = (
        Point("temperature", Register("input", 0)),
        Point("pulses", Register("input", 1), read_clears=True),
        Point("humidity", Register("input", 2)),
    )
    return Device("rain", "modbus", 1, points, {"unit": 1, "framing": "rtu"})


def test_what_reading_clears_is_asked_only_by_its_name_and_never_read_along():
    unit = Unit(clearing(), "line", 0.0, {})
    names = [[point.name for point in group] for group in groups(unit, chosen(unit, []))]
    assert names == [["temperature"], ["humidity"]]
    named = chosen(unit, ["humidity", "pulses", "temperature"])
    assert sorted(point.name for group in groups(unit, named) for point in group) == [
        "humidity",
        "pulses",
        "temperature",
    ]


def test_polling_without_an_agent_leaves_alone_what_reading_clears():
    bus = Bus("line", TcpPort("127.0.0.1"), "rtu", (clearing(),))
    (device,) = harmless(bus).devices
    unit = Unit(device, "line", 0.0, {})
    assert [[point.name for point in group] for group in unit.driver.plan(device.points)] == [
        ["temperature"],
        ["humidity"],
    ]
