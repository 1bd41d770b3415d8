"""The store's process is really killed, or denied its disk, at step i, for some i.

The faults P01 to P09 (tests/faults) go through all of them; here a kill shows that their recordings tell the truth.
"""

from __future__ import annotations

import asyncio
import json

import pytest
from keeping import KEEPER
from promise import Promise, judge
from recording import traced

from gateway.store import opening


async def run_keeper(folder, *inject):
    """Run the keeper with failing calls; returns (exit code, what it said, its errors)."""
    calls = inject[0].partition(":")[0]
    options = ["-o", "/dev/null", "-e", f"trace={calls}", *(part for one in inject for part in ("-e", f"inject={one}"))]
    arguments = [str(folder), json.dumps({"rounds": 12})]
    done = await asyncio.to_thread(traced, KEEPER, *arguments, options=options)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr.decode()


async def find_all(folder, said):
    """Nothing that was committed and not settled may be missing, and every value is a true one."""
    promise = Promise()
    for line in said:
        promise.hear(line)
    verdict = await judge(folder, promise)
    assert (verdict.lost, verdict.wrong) == (0, 0), verdict.seen


@pytest.mark.parametrize(
    ("call", "step"),
    [("pwrite64", step) for step in range(1, 142, 7)]
    + [("fdatasync", step) for step in range(1, 37, 4)]
    + [(call, step) for call in ("unlink", "ftruncate") for step in (1, 2, 3)],
)
async def test_killed_at_a_step_nothing_committed_is_lost(tmp_path, call, step):
    code, said, errors = await run_keeper(tmp_path / "store", f"{call}:signal=KILL:when={step}")
    assert code == -9 or "closed" in said[-1], errors
    await find_all(tmp_path / "store", said)


async def test_a_disk_that_fails_before_the_epoch_is_written_does_not_stop_an_agent_that_ran_here_before(desk):
    await desk.close(await desk.open())
    code, said, errors = await run_keeper(desk.folder, "pwrite64:error=ENOSPC:when=2..12")
    assert (code, said[-1].get("closed")) == (0, True), errors
    assert said[0]["epoch"].startswith("2-")
    await find_all(desk.folder, said)


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
