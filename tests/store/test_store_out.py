"""What the publisher gets, in which order, and what it gets again."""

from __future__ import annotations

import asyncio

import msgpack
import pytest


async def test_events_and_commands_first_then_live_then_backlog(desk):
    store = await desk.open()
    old = store.epoch
    await desk.feed(store, 2)
    await store.append_message("e", {"code": "old"})
    await desk.close(store)
    store = await desk.open()
    await desk.feed(store, 2)
    await store.append_message("c", {"id": "new"})
    batches = await desk.drain(store)
    assert [(b.stream, b.epoch == old, b.historical) for b in batches if b.stream != "t"] == [
        ("e", True, True),
        ("c", False, False),
    ]
    assert [(b.epoch == old, b.seq, b.historical) for b in batches if b.stream == "t"] == [
        (False, 1, False),
        (False, 2, False),
        (True, 1, True),
        (True, 2, True),
    ]


async def test_backlog_can_be_left_out_but_old_events_come(desk):
    store = await desk.open()
    await desk.feed(store, 2)
    await store.append_message("e", {"code": "old"})
    await desk.close(store)
    store = await desk.open()
    assert (await desk.take(store, backlog=False)).stream == "e"
    assert await desk.take(store, backlog=False) is None
    assert (await desk.take(store)).seq == 1


async def test_a_message_is_its_body(desk):
    store = await desk.open()
    await store.append_message("c", {"id": "7", "state": "đã xong"})
    batch = await desk.take(store)
    assert msgpack.unpackb(batch.data) == {"id": "7", "state": "đã xong"}
    assert (batch.count, batch.zipped) == (0, False)


async def test_backlog_is_read_in_bounded_chunks_and_in_order(desk):
    store = await desk.open()
    await desk.feed(store, 300)
    await store.commit()
    assert store.stats()["tail_bytes"] == 0
    seqs = [batch.seq for batch in await desk.drain(store)]
    assert seqs == list(range(1, 301))


async def test_more_wakes_when_the_backlog_has_been_read(desk):
    store = await desk.open()
    await desk.feed(store)
    await store.commit()
    assert store.take() is None
    await asyncio.wait_for(store.more(), 10)
    assert store.take().seq == 1


async def test_more_wakes_when_a_batch_closes(desk):
    store = await desk.open()
    assert store.take() is None
    waiting = asyncio.create_task(store.more())
    await asyncio.sleep(0)
    assert not waiting.done()
    await desk.feed(store)
    await asyncio.wait_for(waiting, 10)


async def test_what_is_taken_is_not_given_twice(desk):
    store = await desk.open()
    await desk.feed(store, 3)
    assert len(await desk.drain(store, settle=False)) == 3
    await store.commit()
    assert await desk.drain(store) == []
    assert store.stats()["in_flight"] == 3


async def test_released_batches_come_again_in_order_and_historical(desk):
    store = await desk.open()
    await desk.feed(store, 100)
    await store.commit()
    await desk.feed(store, 2)
    taken = [await desk.take(store) for _ in range(10)]
    assert [b.seq for b in taken] == [101, 102, *range(1, 9)]
    store.release()
    again = await desk.drain(store)
    assert [b.seq for b in again] == list(range(1, 103))
    assert all(b.historical for b in again)
    assert store.stats()["in_flight"] == 0


async def test_one_released_batch_comes_before_younger_ones(desk):
    store = await desk.open()
    await desk.feed(store, 5)
    await store.commit()
    taken = [await desk.take(store) for _ in range(3)]
    store.release([taken[1].key, ("9-0000000000000000", "t", 1), ("x", "q", 0)])
    assert [b.seq for b in await desk.drain(store)] == [2, 4, 5]


async def test_a_released_event_stays_first(desk):
    store = await desk.open()
    await store.append_message("e", {"code": "x"})
    event = await desk.take(store)
    await desk.feed(store)
    store.release([event.key])
    assert [(b.stream, b.historical) for b in await desk.drain(store)] == [("e", True), ("t", False)]


async def test_what_is_taken_and_committed_meanwhile_can_be_released(desk):
    store = await desk.open()
    await desk.feed(store)
    live = await desk.take(store)
    await store.commit()
    store.release([live.key])
    (batch,) = await desk.drain(store)
    assert (batch.seq, batch.historical, batch.data) == (1, True, live.data)


async def test_what_was_not_given_cannot_be_settled(desk):
    store = await desk.open()
    await desk.feed(store, 3)
    first = await desk.take(store)
    assert store.settle(store.epoch, "t", ((1, 2**62),)) == 1
    assert [batch.seq for batch in await desk.drain(store)] == [2, 3]
    assert first.seq == 1
    await desk.feed(store, 2)
    await desk.close(store)
    old, store = store.epoch, await desk.open()
    assert store.settle(old, "t", ((4, 5),)) == 0, "an earlier run may have given them, or not"
    assert [batch.seq for batch in await desk.drain(store)] == [4, 5]


async def test_a_parked_batch_waits_until_it_is_asked_for(desk):
    store = await desk.open()
    await desk.feed(store, 5)
    await store.commit()
    await desk.feed(store, 2)
    taken = await desk.drain(store, settle=False)
    for batch in taken:
        store.park(batch.key)
    store.release()
    assert await desk.drain(store) == []
    await store.commit()
    assert await desk.drain(store) == []
    assert (store.stats()["parked_batches"], store.stats()["pending_batches"]) == (7, 7)
    assert await store.resend(store.epoch, "t", ((2, 2), (6, 6))) == (2, ())
    assert [(batch.seq, batch.historical) for batch in await desk.drain(store)] == [(2, True), (6, True)]
    assert store.unpark("e") == 0
    assert store.unpark("t") == 5
    assert [batch.seq for batch in await desk.drain(store)] == [1, 3, 4, 5, 7]
    assert store.stats()["pending_batches"] == store.stats()["parked_batches"] == 0


async def test_a_parked_batch_is_tried_once_more_by_the_next_run(desk):
    store = await desk.open()
    await desk.feed(store, 2)
    for batch in await desk.drain(store, settle=False):
        store.park(batch.key)
    await desk.close(store)
    store = await desk.open()
    assert [batch.seq for batch in await desk.drain(store)] == [1, 2]


async def test_what_is_asked_for_and_is_not_there_is_named(desk):
    store = await desk.open(max_size=450_000)
    await desk.feed(store, 4)
    await desk.drain(store)
    assert await store.resend(store.epoch, "t", ((1, 2), (4, 2**62))) == (0, ((1, 2), (4, 4)))
    assert await store.resend("7-unknown", "t", ((3, 9),)) == (0, ((3, 9),))
    for _ in range(90):
        await desk.feed(store, 10, 300)
        await store.commit()
    assert store.stats()["dropped_batches"] > 0
    _, missing = await store.resend(store.epoch, "t", ((1, 2**62),))
    assert missing == ((1, 4),), "what was dropped is announced as that"


async def test_settling_what_is_not_known_does_nothing(desk):
    store = await desk.open()
    await desk.feed(store, 2)
    await desk.hand_out(store)
    for epoch, stream, ranges in [
        (store.epoch, "t", ((3, 9),)),
        (store.epoch, "e", ((1, 9),)),
        (store.epoch, "x", ((1, 9),)),
        (store.epoch, "", ((1, 9),)),
        ("1-0000000000000000", "t", ((1, 9),)),
        ("77", "t", ((1, 9),)),
        ("²-1", "t", ((1, 9),)),
        ("9" * 5000 + "-1", "t", ((1, 9),)),
        ("", "t", ((1, 9),)),
        (store.epoch, "t", ((-5, 0), (9, 3))),
    ]:
        assert store.settle(epoch, stream, ranges) == 0
    assert store.settle(store.epoch, "t", ((-(10**30), 10**30),)) == 2
    assert store.settle(store.epoch, "t", ((1, 2),)) == 0
    desk.check(store)


async def test_settling_backlog_that_is_not_in_memory_any_more_counts_its_readings(desk):
    store = await desk.open()
    await desk.feed(store, 10, count=7)
    await desk.close(store)
    old = store.epoch
    store = await desk.open()
    await desk.hand_out(store)
    assert store.settle(old, "t", ((1, 4), (6, 6))) == 5
    desk.check(store)
    await store.commit()
    desk.check(store)
    assert (store.stats()["acked"], store.stats()["acked_batches"], store.stats()["pending"]) == (35, 5, 35)
    assert [b.seq for b in await desk.drain(store)] == [5, 7, 8, 9, 10]


async def test_settling_while_it_is_being_committed_frees_it_later(desk):
    store = await desk.open()
    await desk.feed(store, 3)
    await desk.hand_out(store)
    writing = asyncio.create_task(store.commit())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert store.settle(store.epoch, "t", ((1, 2),)) == 2
    await writing
    desk.check(store)
    assert [b.seq for b in await desk.drain(store)] == [3]
    await desk.close(store)
    store = await desk.open()
    assert await desk.drain(store) == []


async def test_a_cancelled_commit_is_finished_all_the_same(desk):
    store = await desk.open()
    await desk.feed(store, 3)
    writing = asyncio.create_task(store.commit())
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await store.commit()
    assert store.stats()["stored"] == 12
    desk.check(store)


async def test_without_keep_acked_only_the_unsettled_can_be_sent_again(desk):
    store = await desk.open()
    await desk.feed(store, 4)
    await store.commit()
    await desk.feed(store, 2)
    taken = await desk.drain(store, settle=False)
    store.settle(store.epoch, "t", ((1, 2),))
    assert len(taken) == 6
    assert await store.resend(store.epoch, "t", ((1, 100),)) == (4, ((1, 2),))
    again = await desk.drain(store)
    assert [(b.seq, b.historical) for b in again] == [(3, True), (4, True), (5, True), (6, True)]


async def test_keep_acked_gives_settled_batches_again_and_counts_them_once(desk):
    store = await desk.open(keep_acked=100_000)
    await desk.feed(store, 5)
    await desk.drain(store)
    assert await store.resend(store.epoch, "t", ((2, 4),)) == (3, ())
    again = await desk.drain(store)
    assert [(b.seq, b.historical) for b in again] == [(2, True), (3, True), (4, True)]
    assert store.stats()["acked"] == 20
    old = store.epoch
    await desk.close(store)
    store = await desk.open(keep_acked=100_000)
    assert store.stats()["recovered"] == 0
    assert await desk.drain(store) == []
    assert await store.resend(old, "t", ((1, 1), (5, 5))) == (2, ())
    assert [b.seq for b in await desk.drain(store)] == [1, 5]
    desk.check(store)


async def test_keep_acked_keeps_what_was_settled_on_disk(desk):
    store = await desk.open(keep_acked=100_000)
    await desk.feed(store, 5)
    await store.commit()
    await desk.drain(store)
    desk.hands.now += 20
    await store.step()
    await desk.crash(store)
    old = store.epoch
    store = await desk.open(keep_acked=100_000)
    assert store.stats()["pending"] == 0
    assert await store.resend(old, "t", ((1, 5),)) == (5, ())


async def test_keep_acked_gives_up_the_oldest_beyond_its_size(desk):
    store = await desk.open(keep_acked=3000)
    for _ in range(60):
        await desk.feed(store)
        await desk.drain(store)
    found, missing = await store.resend(store.epoch, "t", ((1, 60),))
    assert 5 < found < 60
    assert missing == ((1, 60 - found),)
    assert [b.seq for b in await desk.drain(store)] == list(range(61 - found, 61))


@pytest.mark.parametrize("from_disk", [False, True])
async def test_streams_can_be_left_waiting(desk, from_disk):
    store = await desk.open()
    await store.append_message("e", {"n": 1})
    await store.append_message("c", {"n": 2})
    await desk.feed(store, 1)
    if from_disk:
        await store.commit()
    assert await desk.take(store, without=("e", "c", "t")) is None
    assert (await desk.take(store, without=("e", "c"))).stream == "t"
    assert (await desk.take(store, without=("e",))).stream == "c"
    assert await desk.take(store, without=("e",)) is None
    assert (await desk.take(store)).stream == "e"


async def test_an_absurd_range_is_asked_for(desk):
    store = await desk.open()
    await desk.feed(store, 2)
    assert await store.resend("7-0123456789abcdef", "t", ((1, 2**62),)) == (0, ((1, 2**62),))
    assert await store.resend(store.epoch, "t", ((1, 2**62),)) == (2, ())
