"""`gateway store status` and `verify`, as a user runs them, without an agent and beside one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import re
import sqlite3
import subprocess
import sys

import pytest

from gateway.settings import load
from gateway.simulator import Simulator
from gateway.store import opening
from gateway.store.look import waiting


def flip(path, needle, *, at=0):
    """Change one byte of the first place that holds these bytes."""
    raw = bytearray(path.read_bytes())
    where = raw.index(needle) + at
    raw[where] ^= 0x40
    path.write_bytes(raw)


async def stored(desk, batches=3, **settings):
    """A store that was closed with so many batches of four readings."""
    store = await desk.open(**settings)
    await desk.feed(store, batches)
    await store.append_message("e", {"id": "a", "code": "device-dead", "text": "đồng hồ"})
    await store.commit()
    return store


async def test_status_tells_what_waits_of_each_kind(desk, verbs):
    store = await stored(desk, keep_acked=10**6)
    batch = await desk.take(store)
    while batch.stream != "t":
        batch = await desk.take(store)
    store.settle(*batch.key[:2], ((batch.seq, batch.seq),))
    epoch = store.epoch
    await desk.close(store)
    gateway = verbs()
    told = gateway.json("store", "status")
    assert told["streams"]["t"]["waiting"] | {"oldest": 0} == {"batches": 2, "readings": 8, "oldest": 0}
    assert told["streams"]["t"]["waiting"]["oldest"] == 1_700_001_000_000
    assert told["streams"]["t"]["kept"]["batches"] == 1
    assert told["streams"]["e"]["waiting"]["batches"] == 1
    assert told["epochs"] == [
        {"epoch": epoch, "ended": "clean", "waiting": {"t": 2, "e": 1, "c": 0}, "readings": 8},
    ]
    assert told["cap_bytes"] == 64_000_000
    assert 0 < told["used_bytes"] < 100_000
    assert 0 < told["hours_left"] < told["hours_in_all"]
    assert told["agent"] is None
    shown = gateway("store", "status")
    assert shown.returncode == 0
    for words in ("gw-1 · Tây Ninh / Phường 1", "of 64 MB", epoch, "clean stop", "the agent does not run", "power cut"):
        assert words in shown.stdout
    assert re.search(r"readings\D+8\D+2 .+2023-11-1", shown.stdout)


async def test_status_counts_the_batches_of_every_run_and_shows_how_it_ended(desk, verbs):
    first = await stored(desk, 2)
    await desk.crash(first)
    second = await stored(desk, 1)
    await desk.crash(second)
    told = verbs().json("store", "status")
    assert [(one["ended"], one["waiting"]["t"]) for one in told["epochs"]] == [("unclean", 2), ("unclean", 1)]
    assert told["waiting"]["readings"] == 12


async def test_status_names_files_that_were_moved_aside(desk, verbs):
    await desk.close(await stored(desk))
    gateway = verbs()
    (desk.folder / "gateway.db.corrupt-2").write_bytes(b"x" * 5000)
    (desk.folder / "gateway.db.newer-1").write_bytes(b"x")
    assert {one["file"]: one["bytes"] for one in gateway.json("store", "status")["aside"]} == {
        "gateway.db.corrupt-2": 5000,
        "gateway.db.newer-1": 1,
    }
    shown = gateway("store", "status").stdout
    assert "gateway.db.corrupt-2 (5 KB): damaged, moved aside" in shown
    assert "gateway.db.newer-1 (1 B): of a later version" in shown


async def test_status_on_a_terminal_has_colours_and_a_bar(desk, verbs):
    await desk.close(await stored(desk, 20))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "gateway", "store", "status", "--config", str(verbs(max_size="8MB").config)]
    with subprocess.Popen(command, stdout=theirs, env=os.environ | {"TERM": "xterm", "COLUMNS": "100"}) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:  # the end of a terminal
            pass
    os.close(ours)
    assert process.returncode == 0
    assert "░".encode() in shown
    assert b"\x1b[" in shown


def test_without_a_store_status_says_so(verbs):
    gateway = verbs()
    for verb in ("status", "verify"):
        shown = gateway("store", verb)
        assert shown.returncode == 1
        assert f"There is no store at {gateway.file}" in shown.stderr


async def test_a_store_of_a_later_version_is_not_guessed_at(desk, verbs):
    await desk.close(await stored(desk))
    gateway = verbs()
    with opening.connect(gateway.file, 1000) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    for words in (("status",), ("verify",), ("export", desk.folder)):
        shown = gateway("store", *words)
        assert shown.returncode == 1
        assert "later version" in shown.stderr


def test_wrong_usage_is_exit_code_2(verbs, tmp_path):
    gateway = verbs()
    for words in ((), ("fly",), ("export",), ("import",), ("status", "--fly")):
        shown = gateway("store", *words)
        assert shown.returncode == 2
        assert "usage: gateway" in shown.stderr
    for verb in ("status", "verify", "export", "import"):
        shown = gateway("store", verb, "--help")
        assert f"example: gateway store {verb}" in shown.stdout
    gateway.config = tmp_path / "none.toml"
    shown = gateway("store", "status")
    assert shown.returncode == 2
    assert "there is no such file" in shown.stderr


# ---- verify


async def test_a_sound_store_is_sound(desk, verbs):
    await desk.close(await stored(desk, 70))
    gateway = verbs()
    told = gateway.json("store", "verify")
    assert (told["sound"], told["batches"], told["readings"]) == (True, 71, 280)
    assert "is sound" in gateway("store", "verify").stdout


async def test_a_batch_with_a_flipped_bit_is_named(desk, verbs):
    store = await desk.open()
    for text in ("first", "second", "third"):
        await store.append_message("e", {"code": text})
    epoch = store.epoch
    await desk.close(store)
    gateway = verbs()
    flip(gateway.file, b"second")
    shown = gateway("store", "verify", "--json")
    told = json.loads(shown.stdout)
    assert shown.returncode == 1
    assert (told["sound"], told["batches"], told["structure"]) == (False, 2, [])
    assert told["damaged"] == [{"epoch": epoch, "stream": "e", "seq": 2}]
    shown = gateway("store", "verify")
    assert shown.returncode == 1
    assert f"batch 2 of stream e, epoch {epoch}: the checksum is wrong" in shown.stdout
    assert "gives damaged batches up by itself" in shown.stdout


async def test_damaged_pages_are_told_and_the_rest_is_counted(desk, verbs):
    await desk.close(await stored(desk, 200))
    gateway = verbs()
    raw = bytearray(gateway.file.read_bytes())
    raw[30 * opening.PAGE : 31 * opening.PAGE] = b"\xa5" * opening.PAGE
    aside = desk.folder / "gateway.db.corrupt-1"
    aside.write_bytes(raw)
    for name in (aside, aside.name):  # from anywhere, and by its name beside the store
        shown = gateway("store", "verify", "--json", "--file", name)
        told = json.loads(shown.stdout)
        assert shown.returncode == 1
        assert told["structure"]
        assert 150 < told["batches"] < 201
    shown = gateway("store", "verify", "--file", aside)
    assert "gateway store export DIR --file gateway.db.corrupt-1" in shown.stdout
    assert "Traceback" not in shown.stderr


async def test_batches_that_nothing_leads_to_any_more_are_counted(desk, verbs):
    await desk.close(await stored(desk, 200))
    gateway = verbs()
    with contextlib.closing(sqlite3.connect(gateway.file)) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name='batch'").fetchone()
        (count,) = db.execute("SELECT count(*) FROM batch").fetchone()
    raw = bytearray(gateway.file.read_bytes())
    raw[(root - 1) * opening.PAGE : root * opening.PAGE] = bytes(opening.PAGE)
    gateway.file.write_bytes(raw)
    told = json.loads(gateway("store", "verify", "--json").stdout)
    assert told["structure"]
    assert told["batches"] == count


async def test_what_is_no_database_is_damaged(desk, verbs):
    gateway = verbs()
    desk.folder.mkdir()
    gateway.file.write_bytes(b"no database at all" * 1000)
    for verb in ("status", "verify"):
        shown = gateway("store", verb)
        assert shown.returncode == 1
        assert "is damaged: file is not a database" in shown.stderr
        assert "Traceback" not in shown.stderr


# ---- beside a running agent


@pytest.fixture
async def agent(verbs, desk, until, free_port):
    """A running agent with a simulated device and no broker."""
    gateway = verbs(port=free_port())
    simulator = Simulator(load(gateway.config))
    device = asyncio.create_task(simulator.run())
    await simulator.ready.wait()
    command = [sys.executable, "-m", "gateway", "run", "--config", str(gateway.config)]
    process = await asyncio.create_subprocess_exec(
        *command, stderr=asyncio.subprocess.DEVNULL, env={k: v for k, v in os.environ.items() if k != "GATEWAY_STRICT"}
    )
    await until((desk.folder / "control.sock").exists, "the agent's socket")
    gateway.process = process
    yield gateway
    if process.returncode is None:
        process.kill()
        await process.wait()
    device.cancel()
    await asyncio.gather(device, return_exceptions=True)


async def test_beside_a_running_agent(agent, until, tmp_path, told, records):
    await until(lambda: waiting(agent.store) > 20, "readings on disk")
    status = agent.json("store", "status")
    (epoch,) = status["epochs"]
    assert epoch["ended"] == "runs"
    assert status["agent"]["epoch"] == epoch["epoch"]
    assert status["agent"]["trouble"] == ""
    assert status["agent_silence"] == ""
    assert "the agent runs: " in agent("store", "status").stdout
    assert "runs now" in agent("store", "status").stdout
    assert agent.json("store", "verify")["sound"]
    (tmp_path / "usb").mkdir()
    files = agent.json("store", "export", tmp_path / "usb")["files"]
    telemetry = next(one for one in files if one["stream"] == "t")
    assert telemetry["ended"] == ""
    contents = [c for name, c in records(tmp_path / "usb" / telemetry["file"]) if name.endswith("/up/telemetry")]
    assert sum(len(told(content)) for content in contents) == telemetry["readings"] >= 2
    assert agent.json("store", "status")["streams"]["t"]["waiting"]["batches"] >= len(contents)
    refused = await asyncio.to_thread(agent, "store", "import", telemetry["file"])
    assert refused.returncode == 1
    assert "sudo systemctl stop gateway" in refused.stderr
    agent.process.terminate()
    assert await asyncio.wait_for(agent.process.wait(), 20) == 0


@pytest.mark.parametrize("clean", [True, False])
async def test_a_card_that_is_mounted_read_only(desk, verbs, clean):
    store = await stored(desk)
    if clean:
        await desk.close(store)
    else:  # as it is after a power cut: with a log beside it
        copied = {path.name: path.read_bytes() for path in desk.folder.glob("gateway.db*") if "shm" not in path.name}
        await desk.close(store)
        for path in desk.folder.glob("gateway.db*"):
            path.unlink()
        for name, raw in copied.items():
            (desk.folder / name).write_bytes(raw)
    inside = f'mount --bind "{desk.folder}" "{desk.folder}" && mount -o remount,bind,ro "{desk.folder}" && exec "$@"'
    shown = verbs()("store", "verify", prefix=("unshare", "-rm", "sh", "-c", inside, "sh"))
    if clean:
        assert shown.returncode == 0, shown.stderr
        assert "4 batches (12 readings)" in shown.stdout
    else:
        assert shown.returncode == 1
        assert "It was not closed cleanly" in shown.stderr
        assert "copy gateway.db and gateway.db-wal together" in shown.stderr
        assert verbs().json("store", "verify")["batches"] == 4
