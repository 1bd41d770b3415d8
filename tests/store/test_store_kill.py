"""The store's process is killed, or denied its disk, at step i, for many i. The oracle is what it had said by then."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from gateway.store import opening

ROOT = Path(__file__).parents[2]
AGENT = Path(__file__).with_name("agent.py")
ROUNDS = 12


async def run_agent(folder, *inject):
    """Run the agent under strace; returns (exit code, what it said)."""
    strace = ["strace", "-f", "-qq", "-o", "/dev/null", "--seccomp-bpf", "-e", f"trace={inject[0].split(':')[0]}"]
    for one in inject:
        strace += ["-e", f"inject={one}"]
    done = await asyncio.to_thread(
        subprocess.run,
        [*strace, sys.executable, AGENT, folder, str(ROUNDS)],
        capture_output=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        check=False,
        timeout=60,
    )
    said = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, said, done.stderr.decode()


def ledger(said):
    """(epoch, highest telemetry number said to be committed, numbers settled)"""
    epoch = next((line["epoch"] for line in said if "epoch" in line), None)
    committed = max((line["committed"] for line in said if "committed" in line), default=0)
    settled = {line["settled"][1] for line in said if "settled" in line and line["settled"][0] == "t"}
    return epoch, committed, settled


async def find_all(desk, said):
    """Nothing that was committed and not settled may be missing, and every value is a true one."""
    epoch, committed, settled = ledger(said)
    with closing(sqlite3.connect(desk.folder / "gateway.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    store = await desk.open()
    assert epoch is None or store.epoch != epoch
    batches = await desk.drain(store)
    found = [batch for batch in batches if batch.stream == "t"]
    missing = set(range(1, committed + 1)) - settled - {batch.seq for batch in found}
    assert missing == set()
    assert all(batch.epoch == epoch and batch.historical for batch in found)
    assert [batch.seq for batch in found] == sorted({batch.seq for batch in found})
    truth = [(150 * (batch.seq - 1) + i) * 7919 % 65536 for batch in found for i in range(150)]
    assert desk.values(found) == truth
    return store, batches


@pytest.mark.parametrize(
    ("call", "step"),
    [("pwrite64", step) for step in range(1, 142, 3)] + [("fdatasync", step) for step in range(1, 37)],
)
async def test_killed_at_every_step_nothing_committed_is_lost(desk, call, step):
    code, said, errors = await run_agent(desk.folder, f"{call}:signal=KILL:when={step}")
    assert code == -9 or said[-1] == {"closed": True}, errors
    if (desk.folder / "gateway.db").exists():
        await find_all(desk, said)


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("call", ["unlink", "ftruncate"])
async def test_killed_while_the_log_is_put_away_nothing_is_lost(desk, call, step):
    code, said, errors = await run_agent(desk.folder, f"{call}:signal=KILL:when={step}")
    assert code == -9 or said[-1] == {"closed": True}, errors
    if (desk.folder / "gateway.db").exists():
        await find_all(desk, said)


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
@pytest.mark.parametrize("when", ["25..30", "60..61", "90+"])
async def test_a_disk_that_does_not_write_stops_nothing(desk, error, when):
    code, said, errors = await run_agent(desk.folder, f"pwrite64:error={error}:when={when}")
    stats = next(line["stats"] for line in said if "stats" in line)
    given = [line["settled"][1] for line in said if "settled" in line and line["settled"][0] == "t"]
    assert stats["appended"] == 2 * ROUNDS * 150
    assert stats["dropped"] == 0
    assert set(given) == {seq for seq in range(1, 2 * ROUNDS + 1) if seq % 3 == 0}, "live data goes on"
    told = [(line["code"], line["state"]) for line in said if line.get("code")]
    assert told[0] == ("store-unwritable", "raised")
    if when.endswith("+"):
        assert "could not be written to the store when the agent stopped" in errors
        assert code == 1
    else:
        assert told[1] == ("store-unwritable", "cleared")
        assert (code, said[-1]) == (0, {"closed": True})
    await find_all(desk, said)


@pytest.mark.parametrize("step", [9, 12, 15, 20, 30])
async def test_a_sync_that_fails_once_is_not_trusted_and_costs_nothing(desk, step):
    code, said, errors = await run_agent(desk.folder, f"fdatasync:error=EIO:when={step}")
    assert (code, said[-1]) == (0, {"closed": True}), errors
    store, _ = await find_all(desk, said)
    assert store.stats()["recovered_batches"] >= 16
    assert not list(desk.folder.glob("*corrupt*"))


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
async def test_a_disk_that_fails_at_the_very_first_start_is_explained(desk, error):
    code, _, errors = await run_agent(desk.folder, f"pwrite64:error={error}:when=10+")
    assert code == 1
    assert "cannot be opened" in errors
    assert "Free space" in errors


async def test_a_disk_that_fails_before_the_epoch_is_written_does_not_stop_an_agent_that_ran_here_before(desk):
    await desk.close(await desk.open())
    code, said, errors = await run_agent(desk.folder, "pwrite64:error=ENOSPC:when=2..12")
    assert (code, said[-1]) == (0, {"closed": True}), errors
    assert said[0]["epoch"].startswith("2-")
    await find_all(desk, said)


async def test_memory_stays_bounded_and_the_loss_exact_while_the_disk_is_gone(desk, monkeypatch):
    store = await desk.open(tail_bytes=40_000)
    disk = store._writer._disk
    monkeypatch.setattr(disk, "_pages", 0)

    def broken(*_):
        raise opening.DiskFailed("database or disk is full")

    monkeypatch.setattr(disk, "commit", broken)
    for _ in range(100):
        await desk.feed(store, 1, 300)
        await store.commit()
        assert store.stats()["tail_bytes"] <= 40_000
        desk.check(store)
    monkeypatch.undo()
    await store.commit()
    batches = await desk.drain(store)
    desk.hands.now += 100
    batches += await desk.drain(store)
    given = {b.seq for b in batches if b.stream == "t"}
    stats = store.stats()
    assert (stats["trouble"], stats["dropped_batches"], stats["pending"]) == ("", 100 - len(given), 0)
    assert given == set(range(101 - len(given), 101))
