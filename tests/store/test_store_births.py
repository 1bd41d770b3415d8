"""Births outlive a change of configuration until no batch needs them."""

from __future__ import annotations


async def test_a_birth_is_remembered_over_restarts(desk):
    store = await desk.open()
    await store.remember_birth("meter-1", "aaaaaaaa", {"points": [{"name": "điện áp"}]})
    await desk.crash(store)
    store = await desk.open()
    assert await store.births() == [("meter-1", "aaaaaaaa", {"points": [{"name": "điện áp"}]})]


async def test_remembering_the_same_birth_again_costs_no_commit(desk):
    store = await desk.open()
    await store.remember_birth("meter-1", "aaaaaaaa", {})
    assert store.stats()["commits"] == 1
    await desk.close(store)
    store = await desk.open()
    await store.remember_birth("meter-1", "aaaaaaaa", {})
    await store.remember_birth("meter-1", "aaaaaaaa", {})
    assert store.stats()["commits"] == 0


async def test_a_replaced_birth_is_stale_once_its_batches_are_settled(desk):
    store = await desk.open()
    await store.remember_birth("meter-1", "aaaaaaaa", {"n": 1})
    await desk.feed(store, 2)
    await store.remember_birth("meter-1", "bbbbbbbb", {"n": 2})
    await desk.feed(store, 2)
    assert store.stale_births() == []
    await desk.hand_out(store)
    store.settle(store.epoch, "t", ((1, 1),))
    assert store.stale_births() == []
    store.settle(store.epoch, "t", ((2, 2),))
    assert store.stale_births() == [("meter-1", "aaaaaaaa")]
    await store.forget_birth("meter-1", "aaaaaaaa")
    assert store.stale_births() == []
    assert [birth[1] for birth in await store.births()] == ["bbbbbbbb"]


async def test_readings_in_the_open_batch_need_their_birth(desk):
    store = await desk.open()
    await store.remember_birth("meter-1", "aaaaaaaa", {})
    await desk.feed(store)
    await desk.drain(store)
    await store.append(desk.readings())
    await store.remember_birth("meter-1", "bbbbbbbb", {})
    assert store.stale_births() == []
    store.flush()
    assert store.stale_births() == []
    await desk.drain(store)
    assert store.stale_births() == [("meter-1", "aaaaaaaa")]


async def test_a_birth_of_an_earlier_run_stays_while_backlog_of_that_run_or_an_older_one_waits(desk):
    store = await desk.open()
    oldest = store.epoch
    await desk.feed(store)
    await desk.close(store)
    store = await desk.open()
    await store.remember_birth("gone", "aaaaaaaa", {})
    await desk.feed(store)
    middle = store.epoch
    await desk.close(store)
    store = await desk.open()
    await store.remember_birth("meter-1", "bbbbbbbb", {})
    await desk.feed(store)
    await desk.hand_out(store)
    store.settle(middle, "t", ((1, 1),))
    assert store.stale_births() == []
    store.settle(oldest, "t", ((1, 1),))
    assert store.stale_births() == [("gone", "aaaaaaaa")]
    await store.forget_birth("gone", "aaaaaaaa")
    await desk.close(store)
    store = await desk.open()
    assert [birth[0] for birth in await store.births()] == ["meter-1"]


async def test_a_birth_that_comes_back_is_current_again(desk):
    store = await desk.open()
    for cfg in ("aaaaaaaa", "bbbbbbbb", "aaaaaaaa"):
        await store.remember_birth("meter-1", cfg, {})
    assert store.stale_births() == [("meter-1", "bbbbbbbb")]


async def test_a_device_that_moved_keeps_its_cfg_and_gets_its_new_body(desk):
    store = await desk.open()
    await store.remember_birth("meter-1", "aaaaaaaa", {"location": "tủ 14"})
    await desk.close(store)
    store = await desk.open()
    await store.remember_birth("meter-1", "aaaaaaaa", {"location": "tủ 15"})
    assert await store.births() == [("meter-1", "aaaaaaaa", {"location": "tủ 15"})]
    await desk.close(store)
    store = await desk.open()
    assert await store.births() == [("meter-1", "aaaaaaaa", {"location": "tủ 15"})]
