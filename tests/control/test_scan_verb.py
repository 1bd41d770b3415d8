"""`gateway scan` as a technician calls it: on a pseudo-terminal and TCP, beside an agent and alone."""

from __future__ import annotations

import asyncio
import json
import signal
import socket

import pytest

from gateway.settings import check

NARROW = ("--baud", "115200", "--format", "8N1", "--units", "1-4,9")


def messages(shown):
    return [json.loads(line) for line in shown.out.splitlines()]


async def test_who_answers_is_found_through_the_agent_and_alone(both):
    shown = await both.call("scan", "line", "--json", *NARROW)
    assert (shown.code, shown.err) == (0, "")
    *progress, last = messages(shown)
    result = last["result"]
    assert {one["unit"]: one["known"] for one in result["found"]} == {1: "meter", 2: "lamp"}
    assert result["stanza"] == ""
    assert not result["stopped"]
    assert [message for message in progress if "found" in message]


async def test_a_bare_port_gives_lines_that_can_be_pasted(rig, tmp_path):
    """A pseudo-terminal takes every speed, and no parity: those settings are left out, and the scan says so."""
    rig.config.unlink()
    shown = await rig.call("scan", str(rig.tty), "--json", "--baud", "115200", "--units", "1-4")
    result = messages(shown)[-1]["result"]
    assert shown.code == 0
    assert {one["unit"] for one in result["found"]} == {1, 2}
    assert result["found"][0]["profiles"][0]["profile"] == "eastron-sdm120"
    assert sorted(result["skipped"]) == ["115200 8E1", "115200 8O1"]
    site = tmp_path / "pasted.toml"
    head = '[gateway]\nid = "x"\n[uplink]\nbrokers = ["mqtt://127.0.0.1:1883"]\n'
    site.write_text(head + result["stanza"], encoding="utf-8")
    built, problems = check(site)
    assert problems == []
    assert [device.address for device in built.buses[0].devices] == [1, 2]


async def test_a_host_and_for_people(rig):
    shown = await rig.call("scan", rig.tcp, "--units", "0,1,255")
    assert (shown.code, shown.err) == (0, "")
    assert "1 device found" in shown.out
    assert "pump of the site file" in shown.out


async def test_nothing_found_is_exit_code_1_with_hints(rig):
    shown = await rig.call("scan", "line", "--baud", "115200", "--format", "8N1", "--units", "50-52")
    assert shown.code == 1
    assert "no device found" in shown.out
    assert "A and B" in shown.out


async def test_ctrl_c_ends_it_at_once_and_shows_what_was_found(rig, until):
    process = await rig.start("scan", "line", "--json", "--budget", "1h")
    lines = []
    async with asyncio.timeout(30):
        while not any("found" in line for line in lines):
            lines.append(json.loads(await process.stdout.readline()))
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    result = json.loads(out.splitlines()[-1])["result"]
    assert (process.returncode, err) == (130, b"")
    assert result["stopped"]
    assert result["found"]
    assert result["left"] > 0


async def test_a_port_that_another_program_holds(rig):
    process = await rig.start("trace", "line", "--json")
    await process.stdout.readline()
    rig.document["gateway"]["id"] = "another"
    rig.write()
    shown = await rig.call("scan", "line", *NARROW)
    process.send_signal(signal.SIGTERM)
    await process.wait()
    assert shown.code == 1
    assert "in use by another program" in shown.sentence


async def test_a_host_that_refuses(rig, free_port):
    shown = await rig.call("scan", f"127.0.0.1:{free_port()}")
    assert shown.code == 1
    assert "refuses" in shown.sentence


async def test_a_host_that_accepts_and_says_nothing(rig):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        shown = await rig.call("scan", f"127.0.0.1:{mute.getsockname()[1]}", "--units", "1", "--budget", "2s")
    assert shown.code == 1
    assert "--framing rtu" in shown.out


@pytest.mark.parametrize(
    "words",
    [("line", "--units", "0-300"), ("lime",), ("127.0.0.1:0",), ("line", "--budget", "5"), ("line", "--baud", "1")],
)
async def test_wrong_usage_is_exit_code_2(rig, words):
    shown = await rig.call("scan", *words)
    assert shown.code == 2
    assert "Traceback" not in shown.err
