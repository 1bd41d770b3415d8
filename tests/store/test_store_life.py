"""The life of a batch: when it closes, when it is committed, what a restart finds."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from drivers.base import Sample
from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.model import Readings, StoreSettings
from gateway.store import Store


def rows(desk):
    with closing(sqlite3.connect(desk.folder / "gateway.db")) as db:
        return db.execute("SELECT count(*) FROM batch").fetchone()[0]


async def test_sequence_numbers_have_no_gaps_and_start_at_one_in_each_stream_of_each_run(desk):
    for _ in range(2):
        store = await desk.open()
        await desk.feed(store, 5)
        for _ in range(3):
            await store.append_message("e", {"code": "x"})
        await store.append_message("c", {"id": "y"})
        found = {}
        for batch in await desk.drain(store):
            assert batch.epoch == store.epoch
            found.setdefault(batch.stream, []).append(batch.seq)
        assert found == {"t": [1, 2, 3, 4, 5], "e": [1, 2, 3], "c": [1]}
        await desk.close(store)


async def test_an_epoch_is_the_start_counter_and_64_random_bits(desk):
    epochs = []
    for _ in range(3):
        store = await desk.open()
        epochs.append(store.epoch)
        await desk.close(store)
    assert [epoch.split("-")[0] for epoch in epochs] == ["1", "2", "3"]
    assert all(re.fullmatch(r"\d+-[0-9a-f]{16}", epoch) for epoch in epochs)
    assert len({epoch.split("-")[1] for epoch in epochs}) == 3


async def test_the_epoch_is_on_disk_before_anything_can_be_published(desk):
    store = await desk.open()
    with closing(sqlite3.connect(desk.folder / "gateway.db")) as db:
        assert db.execute("SELECT epoch FROM run").fetchone()[0] == store.epoch


async def test_the_first_readings_of_a_run_leave_at_once_and_later_ones_after_linger(desk):
    store = await desk.open(linger=1.0)
    await store.append(desk.readings())
    assert (await desk.take(store)).seq == 1
    await store.append(desk.readings())
    await store.append(desk.readings())
    assert await store.step() == pytest.approx(0.5)
    assert await desk.take(store) is None
    desk.hands.now += 0.5
    await store.step()
    batch = await desk.take(store)
    assert (batch.seq, batch.count) == (2, 8)


@pytest.mark.parametrize("late", [0.0, 0.3, 0.49, 0.5, 0.8, 7.25])
async def test_no_reading_waits_longer_than_linger_and_those_on_the_grid_half_of_it(desk, late):
    store = await desk.open(linger=1.0, commit_every=60.0)
    await store.append(desk.readings())
    desk.hands.now += late
    await store.append(desk.readings())
    wait = await store.step()
    assert 0 < wait <= 1.0
    assert (late + wait) % 1.0 == pytest.approx(0.5)


async def test_without_linger_every_append_is_a_batch(desk):
    store = await desk.open(linger=0.0)
    for _ in range(3):
        await store.append(desk.readings())
    assert [batch.seq for batch in await desk.drain(store)] == [1, 2, 3]


async def test_a_full_batch_leaves_without_waiting(desk):
    store = await desk.open(linger=60.0)
    for _ in range(100):
        await store.append(desk.readings(100))
    batches = await desk.drain(store)
    assert len(batches) > 2
    assert all(len(batch.data) <= 48 * 1024 for batch in batches)


async def test_a_change_of_the_clocks_state_closes_the_batch(desk):
    synchronised = False
    clock = Clock(boot="b", monotonic=lambda: desk.hands.now, wall=lambda: 1e9, synchronised=lambda: synchronised)
    store = await desk.open(clock=clock, linger=60.0)
    await desk.feed(store)
    await store.append(desk.readings())
    synchronised = True
    clock.look()
    await store.append(desk.readings())
    store.flush()
    assert [batch.count for batch in await desk.drain(store)] == [4, 4, 4]


async def test_a_batch_names_the_same_instant_in_both_times(desk):
    store = await desk.open()
    desk.hands.now = 5000.25
    await desk.feed(store)
    batch = await desk.take(store)
    assert (batch.m0, batch.t0, batch.clk, batch.boot) == (5_000_250, 1_700_005_000_250, "synced", "0123456789ab")


async def test_no_readings_make_no_batch(desk):
    store = await desk.open(linger=0.0)
    await store.append(desk.readings(0))
    assert await desk.take(store) is None


async def test_what_is_settled_before_its_commit_never_touches_the_disk(desk):
    store = await desk.open()
    for _ in range(20):
        await desk.feed(store)
        await desk.drain(store)
        desk.hands.now += 3
        await store.step()
    assert store.stats()["commits"] == 0
    assert rows(desk) == 0


async def test_everything_unsettled_is_committed_in_one_transaction_a_second_after_it_was_closed(desk):
    store = await desk.open(commit_every=1.0)
    await desk.feed(store)
    await store.append_message("e", {"code": "x"})
    desk.hands.now += 0.5
    await desk.feed(store)
    assert await store.step() == pytest.approx(0.5)
    assert store.stats()["commits"] == 0
    desk.hands.now += 0.5
    await store.step()
    stats = store.stats()
    assert (stats["commits"], stats["stored"], stats["uncommitted"], rows(desk)) == (1, 8, 0, 3)


def test_the_timers_run_by_themselves(tmp_path, hands, virtually):
    async def afternoon():
        store = Store(StoreSettings(path=str(tmp_path), linger=1.0, commit_every=2.0), hands.clock())
        await store.open()
        timers = asyncio.create_task(store.run())
        for value in range(3):
            await store.append(Readings("m", "c", store._clock.mono_ms(), [Sample("p", value)]))
        assert [store.take().count, store.take()] == [1, None]
        await store.more()
        assert store.take().count == 2
        while store.stats()["uncommitted"]:
            await asyncio.sleep(1)
        timers.cancel()
        await store.close()
        return store.stats()["stored"]

    assert virtually(afternoon()) == 3


async def test_strict_gives_nothing_that_is_not_committed(desk):
    store = await desk.open(durability="strict")
    await desk.feed(store, 2)
    await store.append_message("e", {"code": "x"})
    assert await desk.take(store) is None
    await store.commit()
    assert rows(desk) == 3
    batches = await desk.drain(store)
    assert [(batch.stream, batch.historical) for batch in batches] == [("e", False), ("t", False), ("t", False)]


async def test_strict_hands_what_nobody_took_to_the_backlog(desk):
    store = await desk.open(durability="strict")
    await desk.feed(store)
    await store.commit()
    await desk.feed(store)
    await store.commit()
    assert store.stats()["tail_bytes"] < 1000
    assert [(batch.seq, batch.historical) for batch in await desk.drain(store)] == [(2, False), (1, True)]
    desk.check(store)


@pytest.mark.parametrize("clean", [True, False])
async def test_a_restart_finds_every_committed_batch_as_historical(desk, clean):
    store = await desk.open()
    first = store.epoch
    await desk.feed(store, 3)
    await store.commit()
    await desk.feed(store, 2)
    await (desk.close(store) if clean else desk.crash(store))
    store = await desk.open()
    batches = await desk.drain(store)
    survivors = 5 if clean else 3
    assert desk.values(batches) == list(range(4 * survivors))
    assert [(b.epoch, b.seq, b.historical) for b in batches] == [(first, n + 1, True) for n in range(survivors)]
    stats = store.stats()
    assert (stats["recovered"], stats["acked"], stats["pending"]) == (4 * survivors, 4 * survivors, 0)


async def test_earlier_epochs_say_how_they_ended_and_what_is_pending(desk):
    clean = await desk.open()
    await desk.feed(clean, 5)
    await desk.close(clean)
    unclean = await desk.open()
    await desk.feed(unclean, 4)
    await unclean.append_message("e", {"code": "x"})
    await unclean.commit()
    await desk.crash(unclean)
    store = await desk.open()
    first, second = store.earlier_epochs()
    assert (first["epoch"], first["ended"], first["pending"], first["highest_on_disk"]) == (
        clean.epoch,
        "clean",
        [[1, 5]],
        5,
    )
    assert (second["epoch"], second["ended"], second["pending"]) == (unclean.epoch, "unclean", [[1, 4]])
    assert second["streams"]["e"] == {"pending": [[1, 1]], "highest_on_disk": 1}
    await desk.hand_out(store)
    assert store.settle(clean.epoch, "t", ((2, 3),)) == 2
    assert store.earlier_epochs()[0]["pending"] == [[1, 1], [4, 5]]
    assert store.settle(clean.epoch, "t", ((1, 9),)) == 3
    assert [entry["epoch"] for entry in store.earlier_epochs()] == [unclean.epoch]


async def test_the_highest_number_on_disk_outlives_its_row(desk):
    store = await desk.open()
    await desk.feed(store, 6)
    await store.commit()
    await desk.hand_out(store)
    store.settle(store.epoch, "t", ((1, 6),))
    desk.hands.now += 20
    await store.step()
    assert rows(desk) == 0
    await desk.crash(store)
    store = await desk.open()
    (entry,) = store.earlier_epochs()
    assert (entry["ended"], entry["pending"], entry["highest_on_disk"]) == ("unclean", [], 6)


async def test_settled_epochs_are_forgotten_after_another_start(desk):
    for _ in range(4):
        store = await desk.open()
        await desk.crash(store)
    store = await desk.open()
    assert len(store.earlier_epochs()) == 1


async def test_deletes_are_written_in_groups(desk):
    store = await desk.open()
    await desk.feed(store, 200)
    await store.commit()
    await desk.drain(store, settle=False)
    before = store.stats()["commits"]
    for seq in range(1, 201):
        store.settle(store.epoch, "t", ((seq, seq),))
        await store.step()
    desk.hands.now += 20
    await store.step()
    assert store.stats()["commits"] - before == 4
    assert rows(desk) == 0


async def test_append_waits_only_while_the_tail_is_full(desk):
    store = await desk.open(tail_bytes=4000)
    for _ in range(20):
        if store._full():
            break
        await desk.feed(store)
    waiting = asyncio.create_task(store.append(desk.readings()))
    timers = asyncio.create_task(store.run())
    await asyncio.wait_for(waiting, 10)
    timers.cancel()
    assert store.stats()["stored"] > 0
    desk.check(store)


async def test_a_second_agent_is_told_who_holds_the_store(desk):
    await desk.open()
    with pytest.raises(GatewayError, match=r"Another gateway agent \(process \d+\).*own \[store\] path"):
        await desk.open()


async def test_another_process_is_told_too(desk):
    await desk.open()
    program = (
        "import asyncio, sys\n"
        "from gateway.clock import Clock\n"
        "from gateway.model import StoreSettings\n"
        "from gateway.store import Store\n"
        "asyncio.run(Store(StoreSettings(path=sys.argv[1]), Clock('system')).open())\n"
    )
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", program, desk.folder],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Another gateway agent" in done.stderr


async def test_a_path_that_cannot_be_used_is_explained(desk):
    desk.folder.parent.joinpath("file").write_text("not a folder")
    desk.folder = desk.folder.parent / "file" / "store"
    with pytest.raises(GatewayError, match=r"cannot be used.*another \[store\] path"):
        await desk.open()


async def test_a_run_knows_from_the_start_how_full_the_store_is_and_how_old(desk):
    store = await desk.open()
    await desk.feed(store, 50, 100)
    await store.commit()
    before = store.stats()
    await desk.close(store)
    store = await desk.open()
    after = store.stats()
    assert after["oldest"] == before["oldest"] is not None
    assert after["used_bytes"] >= before["used_bytes"] > 20_000
    assert after["disk_bytes"] > 20_000


async def test_missing_folders_are_created(desk):
    desk.folder = desk.folder / "a" / "b"
    await desk.open()
    assert (desk.folder / "gateway.db").exists()


async def test_small_state_survives(desk):
    store = await desk.open()
    assert await store.load_state("counters") is None
    await store.save_state("counters", {"đồng hồ": [1, 2.5, None]})
    await desk.crash(store)
    store = await desk.open()
    assert await store.load_state("counters") == {"đồng hồ": [1, 2.5, None]}
    store._writer.state["later"] = b"\x07"
    assert await store.load_state("later") == 7


async def test_a_message_is_bounded_and_of_a_known_stream(desk):
    store = await desk.open()
    with pytest.raises(ValueError, match="at most"):
        await store.append_message("e", {"text": "x" * 300_000})
    with pytest.raises(ValueError, match="stream 't'"):
        await store.append_message("t", {})


async def test_times_from_before_the_clock_was_trusted_are_corrected_even_of_earlier_runs(desk):
    wall, synchronised = 0.0, False

    def clock():
        return Clock(
            boot="b" * 12, monotonic=lambda: desk.hands.now, wall=lambda: wall, synchronised=lambda: synchronised
        )

    store = await desk.open(clock=clock())
    await desk.feed(store)
    batch = await desk.take(store)
    assert (batch.clk, batch.t0) == ("unsynced", 0)
    await desk.close(store)
    synchronised, wall = True, 1_700_000_000.0
    store = await desk.open(clock=clock())
    batch = await desk.take(store)
    assert (batch.clk, batch.t0, batch.historical) == ("corrected", 1_700_000_000_000, True)
    await desk.close(store)
    other_boot = Clock(boot="c" * 12, monotonic=lambda: 5.0, wall=lambda: 0.0, synchronised=lambda: False)
    store = await desk.open(clock=other_boot)
    batch = await desk.take(store)
    assert (batch.clk, batch.t0) == ("corrected", 1_700_000_000_000)
