"""A disk that cannot be used: live data goes on, and everything is made good when it works again."""

from __future__ import annotations

import msgpack
import pytest

from gateway.errors import GatewayError
from gateway.store.opening import DiskFailed


def block(desk):
    """Put something in the database's place that cannot be opened."""
    path = desk.folder / "gateway.db"
    if path.exists():
        path.rename(desk.folder / "hidden")
    path.mkdir()


def unblock(desk):
    (desk.folder / "gateway.db").rmdir()
    if (desk.folder / "hidden").exists():
        (desk.folder / "hidden").rename(desk.folder / "gateway.db")


def events(batches):
    return [(e["code"], e["state"]) for e in (msgpack.unpackb(b.data) for b in batches if b.stream == "e")]


async def test_an_agent_that_ran_here_before_starts_without_its_disk_and_recovers_when_it_is_back(desk):
    store = await desk.open()
    old = store.epoch
    await desk.feed(store, 3)
    await desk.close(store)
    block(desk)
    store = await desk.open()
    assert store.epoch.startswith("2-")
    await desk.feed(store, 2)
    assert events([await desk.take(store)]) == [("store-unwritable", "raised")]
    assert (await desk.take(store)).historical is False
    assert "open" in store.stats()["trouble"]
    assert await store.load_state("counters") is None
    assert await store.births() == []
    desk.check(store)
    unblock(desk)
    assert 0 < await store.step() <= 5
    desk.hands.now += 5
    await store.step()
    assert store.stats()["trouble"] == ""
    store.release()
    batches = await desk.drain(store)
    assert events(batches) == [("store-unwritable", "raised"), ("store-unwritable", "cleared")]
    assert sorted(b.key for b in batches if b.stream == "t") == sorted(
        [(old, "t", 1), (old, "t", 2), (old, "t", 3), (store.epoch, "t", 1), (store.epoch, "t", 2)]
    )
    assert store.stats()["recovered"] == 12


async def test_strict_gives_nothing_while_the_disk_is_gone(desk):
    await desk.close(await desk.open())
    block(desk)
    store = await desk.open(durability="strict")
    await desk.feed(store)
    await store.commit()
    assert await desk.take(store) is None
    unblock(desk)
    await store.commit()
    assert len([b for b in await desk.drain(store) if b.stream == "t"]) == 1


async def test_what_cannot_be_written_at_the_end_is_said(desk):
    await desk.close(await desk.open())
    block(desk)
    store = await desk.open()
    await desk.feed(store, 2)
    with pytest.raises(GatewayError, match=r"^8 readings could not be written .*Free space"):
        await desk.close(store)
    unblock(desk)
    await desk.open()


async def test_the_first_start_needs_a_disk(desk):
    desk.folder.mkdir()
    block(desk)
    with pytest.raises(GatewayError, match=r"cannot be opened: .*Free space"):
        await desk.open()
    unblock(desk)
    assert (await desk.open()).epoch.startswith("1-")


async def test_a_start_counter_that_was_used_before_ends_the_run(desk):
    """The lock file came from somewhere else, and the database could not be read to correct it."""
    for _ in range(3):
        await desk.close(await desk.open())
    (desk.folder / "gateway.lock").write_text("pid 1\nstarts 1\n")
    block(desk)
    store = await desk.open()
    unblock(desk)
    with pytest.raises(GatewayError, match="start counter 2 was used before"):
        await store.commit()
    with pytest.raises(GatewayError, match="start counter 2 was used before"):
        await desk.close(store)
    assert (await desk.open()).epoch.startswith("4-")


async def test_backlog_waits_while_the_disk_cannot_be_read_and_live_data_goes_on(desk, monkeypatch):
    store = await desk.open()
    await desk.feed(store, 3)
    await store.commit()
    disk = store._writer._disk

    def unreadable(*_):
        disk.shut()
        raise DiskFailed("disk I/O error")

    monkeypatch.setattr(disk, "fetch", unreadable)
    assert await desk.take(store) is not None, "the alarm"
    await desk.feed(store)
    assert (await desk.take(store)).seq == 4
    assert await desk.take(store) is None
    monkeypatch.undo()
    desk.hands.now += 5
    await store.step()
    assert sorted(b.seq for b in await desk.drain(store) if b.stream == "t") == [1, 2, 3]


async def test_salvage_waits_for_the_disk(desk, monkeypatch):
    store = await desk.open()
    await desk.feed(store, 300, 50)
    await store.commit()
    old = store.epoch
    await desk.crash(store)
    path = desk.folder / "gateway.db"
    data = bytearray(path.read_bytes())
    data[30 * 1024 : 31 * 1024] = b"\xa5" * 1024
    path.write_bytes(data)
    store = await desk.open()
    disk = store._writer._disk
    real = disk._salvage_row

    def full(db, row, found):
        real(db, row, found)
        if found.pending.count > 100:
            raise DiskFailed("database or disk is full")

    monkeypatch.setattr(disk, "_salvage_row", full)
    await store.step()
    assert store.stats()["trouble"]
    assert store.stats()["recovered"] == 0
    monkeypatch.undo()
    desk.hands.now += 5
    for _ in range(5):
        await store.step()
    assert len([b for b in await desk.drain(store) if b.epoch == old]) > 290
