"""At its cap the store drops the oldest of the lowest priority, and says exactly what."""

from __future__ import annotations

import msgpack

CAP = 1_000_000


def dropped(batches):
    """What the events announce: {(epoch, stream, seq)}."""
    found = set()
    for batch in batches:
        body = msgpack.unpackb(batch.data) if batch.stream == "e" else {}
        if body.get("code") in ("store-full", "store-disk", "store-damaged"):
            assert (body["state"], bool(body["text"]), bool(body["advice"])) == ("raised", True, True)
            for entry in body["data"]["dropped"]:
                keys = [(entry["epoch"], entry["stream"], n) for a, b in entry["ranges"] for n in range(a, b + 1)]
                assert not found & set(keys), "announced twice"
                found |= set(keys)
    return found


async def fill(desk, store, batches, count=300):
    for done in range(0, batches, 5):
        await desk.feed(store, min(5, batches - done), count)
        await store.commit()
        stats = store.stats()
        assert stats["disk_bytes"] <= CAP
        desk.check(store)


async def test_the_oldest_telemetry_goes_and_the_exact_ranges_are_announced(desk):
    store = await desk.open(max_size=CAP)
    await fill(desk, store, 1500)
    stats = store.stats()
    assert stats["dropped_batches"] > 500
    assert stats["pending_batches"] + stats["dropped_batches"] == 1500
    batches = await desk.drain(store)
    given = {b.seq for b in batches if b.stream == "t"}
    gone = {seq for _, _, seq in dropped(batches)}
    assert gone == set(range(1, 1500 - len(given) + 1))
    assert given | gone == set(range(1, 1501))
    assert batches[0].stream == "e"
    assert store.stats()["dropped"] == 300 * len(gone)


async def test_memory_does_not_grow_while_nobody_takes(desk):
    store = await desk.open(max_size=CAP)
    await fill(desk, store, 100)
    for _ in range(5):
        await store.append_message("e", {"n": 1})
    await store.commit()
    book = store._book
    waiting = [queue.memory for queue in book.outlet._queues.values()]
    held = [book.tail, book.flight, book.outlet._live, *waiting]
    assert [len(part) for part in held] == [0] * 6
    assert store.stats()["tail_bytes"] == 0


async def test_an_hour_of_dropping_is_one_event_a_minute_at_most(desk):
    store = await desk.open(max_size=CAP)
    await fill(desk, store, 800)
    events = []
    for _ in range(360):
        await fill(desk, store, 1)
        desk.hands.now += 10
        while (batch := store.take(backlog=False)) is not None:
            if batch.stream == "e":
                events.append(batch)
            store.settle(*batch.key[:2], ((batch.seq, batch.seq),))
    assert 30 < len(events) <= 61
    gone = dropped(events)
    desk.hands.now += 60
    rest = await desk.drain(store)
    assert gone | dropped(rest) | {b.key for b in rest if b.stream == "t"} >= {
        (store.epoch, "t", seq) for seq in range(1, 801)
    }


async def test_events_and_commands_stay_while_there_is_telemetry_to_drop(desk):
    store = await desk.open(max_size=CAP)
    for n in range(20):
        await store.append_message("e", {"n": n})
        await store.append_message("c", {"n": n})
    await fill(desk, store, 1000)
    batches = await desk.drain(store)
    assert [b.seq for b in batches if b.stream == "e"][:20] == list(range(1, 21))
    assert [b.seq for b in batches if b.stream == "c"] == list(range(1, 21))


async def test_then_commands_go_and_events_last(desk):
    store = await desk.open(max_size=CAP)
    await fill(desk, store, 3)
    for n in range(300):
        await store.append_message("c", {"n": n, "text": "x" * 1000})
        await store.append_message("e", {"n": n, "text": "x" * 1000})
        await store.commit()
    batches = await desk.drain(store)
    gone = dropped(batches)
    assert {key for key in gone if key[1] == "e"} == set()
    assert {key[2] for key in gone if key[1] == "t"} == {1, 2, 3}
    commands = sorted(key[2] for key in gone if key[1] == "c")
    assert commands == list(range(1, len(commands) + 1))
    assert len(commands) > 20


async def test_a_loss_is_announced_by_the_next_run_if_need_be(desk):
    store = await desk.open(max_size=CAP)
    old = store.epoch
    await fill(desk, store, 900)
    lost = store.stats()["dropped_batches"]
    await desk.crash(store)
    store = await desk.open(max_size=CAP)
    await desk.crash(store)
    store = await desk.open(max_size=CAP)
    batches = await desk.drain(store)
    assert dropped(batches) == {(old, "t", seq) for seq in range(1, lost + 1)}
    await desk.close(store)
    store = await desk.open(max_size=CAP)
    assert dropped(await desk.drain(store)) == set()


async def test_what_is_in_flight_is_spared(desk):
    store = await desk.open(max_size=CAP)
    await fill(desk, store, 5)
    flying = [await desk.take(store) for _ in range(3)]
    await fill(desk, store, 900)
    assert store.settle(store.epoch, "t", ((1, 3),)) == 3
    gone = dropped(await desk.drain(store))
    assert not gone & {batch.key for batch in flying}
    assert (store.epoch, "t", 4) in gone


async def test_settled_batches_that_were_kept_go_before_any_other(desk):
    store = await desk.open(max_size=CAP, keep_acked=CAP)
    for _ in range(300):
        await desk.feed(store, 1, 300)
        await desk.drain(store)
    await store.commit()
    await fill(desk, store, 200)
    assert store.stats()["dropped"] == 0
    assert store.stats()["pending_batches"] == 200
    assert 0 < (await store.resend(store.epoch, "t", ((1, 300),)))[0] < 300


async def test_a_lower_cap_is_obeyed_after_a_restart(desk):
    store = await desk.open(max_size=10 * CAP)
    for _ in range(30):
        await desk.feed(store, 50, 300)
        await store.commit()
    assert store.stats()["used_bytes"] > CAP
    await desk.close(store)
    store = await desk.open(max_size=CAP)
    await desk.feed(store)
    await store.commit()
    stats = store.stats()
    assert stats["used_bytes"] < CAP
    desk.check(store)
    batches = await desk.drain(store)
    assert len(dropped(batches)) == stats["dropped_batches"] > 500


async def test_a_full_store_can_still_be_drained_and_filled_again(desk):
    store = await desk.open(max_size=CAP)
    for _ in range(3):
        await fill(desk, store, 600)
        await desk.drain(store)
        desk.hands.now += 100
        await store.step()
        assert store.stats()["pending"] == 0
        assert store.stats()["used_bytes"] < 50_000


async def test_a_drop_that_was_announced_and_not_stored_is_announced_again_after_a_crash(desk):
    store = await desk.open(max_size=CAP)
    await fill(desk, store, 900)
    told = dropped([await desk.take(store)])
    assert told
    await store.save_state("small", 1)
    await desk.crash(store)
    store = await desk.open(max_size=CAP)
    assert told <= dropped(await desk.drain(store))
