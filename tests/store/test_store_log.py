"""Damage of the write-ahead log: SQLite takes what stands behind it for torn writes, the store does not."""

from __future__ import annotations

import shutil

import pytest

from gateway.store import opening

FRAME = 24 + opening.PAGE


async def test_births_and_state_behind_a_damaged_frame_are_the_newest(desk):
    store = await desk.open()
    for turn in range(8):
        await store.remember_birth("meter-1", f"c{turn}", {"points": [turn] * 200})
        await store.save_state("totals", turn)
        await desk.feed(store, 2, 50)
        await store.commit()
    epoch = store.epoch
    held = desk.folder.with_name("held")
    shutil.copytree(desk.folder, held)  # before its end moves the log into the file
    await desk.crash(store)
    log = "gateway.db-wal"
    whole = (held / log).read_bytes()
    for at in range(32, 32 + 30 * FRAME, 3 * FRAME):
        shutil.rmtree(desk.folder)
        shutil.copytree(held, desk.folder)
        (desk.folder / log).write_bytes(whole[: at + 100] + b"\xa5" * 300 + whole[at + 400 :])
        store = await desk.open()
        while store._writer.salvaging:
            await store.step()
        assert await store.load_state("totals") == 7
        births = {cfg: body["points"] for _, cfg, body in await store.births()}
        assert len(births) >= 7
        assert all(points == [int(cfg[1:])] * 200 for cfg, points in births.items())
        batches = await desk.drain(store)
        assert len([batch for batch in batches if batch.epoch == epoch]) >= 14
        assert store.earlier_epochs()[0]["epoch"] == epoch
        await desk.crash(store)


@pytest.mark.parametrize("cut", [0.0, 0.3, 0.9])
async def test_a_cut_off_log_costs_the_last_commits_only(desk, cut):
    store = await desk.open()
    await desk.feed(store, 60, 50)
    await store.commit()
    log = desk.folder / "gateway.db-wal"
    whole, size = log.read_bytes(), log.stat().st_size
    main = (desk.folder / "gateway.db").read_bytes()
    await desk.crash(store)
    (desk.folder / "gateway.db").write_bytes(main)
    log.write_bytes(whole[: int(size * cut)])
    store = await desk.open()
    while store._writer.salvaging:
        await store.step()
    await desk.feed(store)
    assert (await desk.drain(store))[-1] is not None
    desk.check(store)
