"""`gateway watch`, through an agent and alone."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import signal
import struct
import termios
import time
from collections import defaultdict
from itertools import pairwise

import pytest

from gateway.cli.watch_view import curve


async def test_every_value_that_changes_is_a_line_for_machines(both):
    said = await both.call("watch", "meter", "lamp", "--seconds", "4", "--json")
    assert said.code == 0, said.err
    told = [json.loads(line) for line in said.out.splitlines()]
    assert {one["device"] for one in told} == {"meter", "lamp"}
    assert {"device", "point", "ts", "value", "unit", "quality"} == set(told[0])
    assert all(abs(one["ts"] / 1000 - time.time()) < 60 for one in told)
    values = defaultdict(list)
    for one in told:
        values[one["device"], one["point"]].append(one["value"])
    assert any(len(seen) > 1 for seen in values.values())  # one alone may stand still so long
    assert all(a != b for seen in values.values() for a, b in pairwise(seen))


async def test_without_a_terminal_people_get_lines(rig):
    said = await rig.call("watch", "lamp", "--seconds", "2")
    assert said.code == 0
    assert "lamp  level" in said.out
    assert "\x1b" not in said.out


async def test_all_devices_when_none_is_named_and_a_dead_one_does_not_matter(both):
    said = await both.call("watch", "--seconds", "4", "--json")
    assert said.code == 0, said.err
    told = [json.loads(line) for line in said.out.splitlines()]
    assert {one["device"] for one in told} >= {"meter", "lamp", "pump", "ghost"}
    assert {one["quality"] for one in told if one["device"] == "ghost"} == {"bad:timeout"}


@pytest.mark.parametrize("no_colour", [False, True])
async def test_a_live_table_until_ctrl_c(both, no_colour):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 40, 120, 0, 0))
    shown = bytearray()
    asyncio.get_running_loop().add_reader(master, lambda: shown.extend(os.read(master, 65536)))
    env = {**os.environ, "GATEWAY_CONFIG": str(both.config), "TERM": "xterm-256color"}
    env |= {"NO_COLOR": "1"} if no_colour else {}
    env.pop("COLUMNS", None)
    process = await both.start("watch", "lamp", "ghost", stdin=slave, stdout=slave, env=env)
    try:
        async with asyncio.timeout(20):
            while b"load" not in shown or b"bad:timeout" not in shown or "▁".encode() not in shown:
                await asyncio.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    finally:
        asyncio.get_running_loop().remove_reader(master)
        os.close(master)
        os.close(slave)
    assert process.returncode == 0
    assert err == b""
    text = shown.decode(errors="replace")
    assert all(word in text for word in ("lamp", "level", "%", "age", "trend", "line"))
    assert ("\x1b[31m" in text) is not no_colour


async def test_a_device_that_does_not_exist(both):
    said = await both.call("watch", "lampp", "--seconds", "3")
    assert said.code == 2
    assert "did you mean lamp?" in said.sentence


async def test_no_port_at_all(rig):
    rig.document["bus"] = rig.document["bus"][:1]
    rig.document["bus"][0]["serial"]["port"] = str(rig.folder / "nothing")
    rig.write()
    said = await rig.call("watch", "--seconds", "3")
    assert said.code == 1
    assert "is the adapter plugged in?" in said.sentence


@pytest.mark.parametrize("text", ["0", "-1", "nan", "x", "1e9"])
async def test_seconds_that_cannot_be(rig, text):
    said = await rig.call("watch", f"--seconds={text}")
    assert said.code == 2
    assert "not a number of seconds" in said.err


async def test_an_agent_that_goes_away_is_one_sentence(rig):
    async with rig.agent() as agent:
        process = await rig.start("watch", "lamp", "--json")
        await process.stdout.readline()
        agent.terminate()
        async with asyncio.timeout(20):
            _, err = await process.communicate()
    assert process.returncode == 1
    assert "has gone in the middle" in err.decode()
    assert "Traceback" not in err.decode()


def test_a_curve_between_its_least_and_greatest():
    assert curve([]) == ""
    assert curve([5, 5]) == "▁▁"
    assert curve([0, 1, 2, 7]) == "▁▂▃█"


async def test_how_the_devices_answer_for_machines_and_for_people(both):
    said = await both.call("watch", "--health", "--seconds", "4", "--json")
    assert said.code == 0, said.err
    told = {one.get("device", one["bus"]): one for one in map(json.loads, said.out.splitlines())}
    meter, ghost = told["meter"], told["ghost"]
    assert meter["answers"] == sum(meter["histogram"]) > 0
    assert ghost["answers"] == 0
    assert ghost["timeout"] >= 1
    said = await both.call("watch", "--health", "ghost", "--seconds", "4")
    assert said.code == 0
    assert "ghost" in said.out
    assert "timeout" in said.out
    assert "lamp" not in said.out
