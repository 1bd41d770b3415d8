"""A damaged file costs at most what is damaged, never the service."""

from __future__ import annotations

import contextlib
import sqlite3

import msgpack
import pytest

from gateway.store import opening


def event_codes(batches):
    bodies = [msgpack.unpackb(b.data) for b in batches if b.stream == "e"]
    return [(body["code"], body["state"]) for body in bodies]


async def salvage(store):
    while store._writer.salvaging:
        await store.step()


async def filled(desk, batches=400, clean=False, **settings):
    """A store with so many batches on disk, ended; returns its epoch."""
    store = await desk.open(**settings)
    await store.remember_birth("meter-1", "a1b2c3d4", {"points": []})
    await desk.feed(store, batches, 50)
    await store.commit()
    epoch = store.epoch
    await (desk.close(store) if clean else desk.crash(store))
    return epoch


def overwrite(path, offset, data):
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("how", ["zeroed", "noise", "text"])
async def test_a_file_that_is_no_database_is_moved_aside(desk, how, clean):
    await filled(desk, clean=clean)
    path = desk.folder / "gateway.db"
    size = path.stat().st_size
    path.write_bytes({"zeroed": bytes(size), "noise": bytes(range(256)) * (size // 256), "text": b"hello"}[how])
    store = await desk.open()
    assert store.epoch.startswith("2-"), "the lock file remembers the starts"
    await salvage(store)
    await desk.feed(store)
    batches = await desk.drain(store)
    assert [b.epoch for b in batches if b.stream == "t"] == [store.epoch]
    assert event_codes(batches) == [("store-replaced", "raised"), ("store-replaced", "cleared")]
    assert (desk.folder / "gateway.db.corrupt-1").exists()


async def test_what_can_be_read_of_a_damaged_file_is_brought_over(desk):
    epoch = await filled(desk)
    path = desk.folder / "gateway.db"
    pages = path.stat().st_size // opening.PAGE
    for page in range(pages // 3, pages // 3 + 3):
        overwrite(path, page * opening.PAGE, b"\xa5" * opening.PAGE)
    store = await desk.open()
    await salvage(store)
    desk.check(store)
    batches = await desk.drain(store)
    old = [b for b in batches if b.epoch == epoch]
    assert 380 <= len(old) < 400
    assert all(b.historical for b in old)
    assert set(desk.values(old)) < set(range(20000))
    assert [b.seq for b in old] == sorted(b.seq for b in old)
    assert event_codes(batches)[:2] == [("store-replaced", "raised"), ("store-replaced", "cleared")]
    assert await store.births() == [("meter-1", "a1b2c3d4", {"points": []})]
    (entry,) = store.earlier_epochs()
    assert (entry["epoch"], entry["ended"], entry["highest_on_disk"]) == (epoch, "unclean", 400)


async def test_salvage_goes_on_after_a_crash(desk):
    epoch = await filled(desk, 900)
    path = desk.folder / "gateway.db"
    overwrite(path, 40 * opening.PAGE, b"\xa5" * opening.PAGE)
    store = await desk.open()
    await store.step()
    await desk.crash(store)
    store = await desk.open()
    await salvage(store)
    desk.check(store)
    old = [b for b in await desk.drain(store) if b.epoch == epoch]
    assert len(old) > 880


async def test_a_page_with_only_a_flipped_bit_costs_one_batch(desk):
    epoch = await filled(desk, 100, clean=True)
    path = desk.folder / "gateway.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        data = db.execute("SELECT data FROM batch WHERE id & 0xffff = 50").fetchone()[0]
    where = path.read_bytes().index(data)
    overwrite(path, where, bytes([data[0] ^ 1]))
    store = await desk.open()
    batches = await desk.drain(store)
    events = [msgpack.unpackb(b.data) for b in await desk.drain(store) + batches if b.stream == "e"]
    assert [b.seq for b in batches if b.stream == "t"] == [n for n in range(1, 101) if n != 50]
    assert events == [] or [e["code"] for e in events] == ["store-damaged"]
    desk.hands.now += 60
    more = await desk.drain(store)
    events += [msgpack.unpackb(b.data) for b in more]
    assert events[0]["data"]["dropped"] == [{"epoch": epoch, "stream": "t", "ranges": [[50, 50]]}]
    assert store.stats()["dropped"] == 50
    desk.hands.now += 60
    await store.step()
    await desk.close(store)
    store = await desk.open()
    assert store.stats()["recovered"] == 0


@pytest.mark.parametrize("clean", [True, False])
async def test_every_page_can_be_lost_and_the_store_goes_on(desk, clean):
    """Fail at page i, for all i."""
    await filled(desk, 40, clean=clean)
    path = desk.folder / "gateway.db"
    sound = path.read_bytes()
    lock = (desk.folder / "gateway.lock").read_bytes()
    for page in range(len(sound) // opening.PAGE):
        at = page * opening.PAGE
        fillers = (bytes(opening.PAGE), b"\xff" * opening.PAGE, sound[at - opening.PAGE : at], sound[-opening.PAGE :])
        for filler in filter(None, fillers):  # the last two: a page stands where another should
            for old in desk.folder.iterdir():
                old.unlink()
            (desk.folder / "gateway.lock").write_bytes(lock)
            path.write_bytes(sound)
            overwrite(path, at, filler)
            desk.given.clear()
            store = await desk.open()
            await salvage(store)
            await desk.feed(store)
            batches = await desk.drain(store)
            assert [b.seq for b in batches if b.epoch == store.epoch and b.stream == "t"] == [1]
            assert set(desk.values(batches)) <= set(range(desk.fed))
            await desk.close(store)


async def test_a_damaged_page_costs_what_stood_on_it(desk):
    """Also one that leads to others: the root of the table, the pages below it, and the header of the file."""
    store = await desk.open()
    for count in (4, 4, 4, 4, 600) * 100:
        await desk.feed(store, count=count)
    await store.commit()
    await desk.crash(store)
    path = desk.folder / "gateway.db"
    lock = (desk.folder / "gateway.lock").read_bytes()
    with contextlib.closing(sqlite3.connect(path)) as db:
        root = db.execute("SELECT rootpage FROM sqlite_master WHERE name='batch'").fetchone()[0] - 1
    sound = path.read_bytes()
    kinds = sound[:: opening.PAGE]
    interior = [page for page, kind in enumerate(kinds) if kind == 0x05]
    leaves = [page for page, kind in enumerate(kinds) if kind == 0x0D]
    assert root in interior
    assert len(interior) > 2
    costs = {}
    for page in [0, *interior, *leaves[::5], *range(1, len(kinds), 25)]:
        for old in desk.folder.iterdir():
            old.unlink()
        (desk.folder / "gateway.lock").write_bytes(lock)
        path.write_bytes(sound)
        overwrite(path, page * opening.PAGE, bytes(opening.PAGE))
        desk.given.clear()
        store = await desk.open()
        await salvage(store)
        costs[page] = 500 - len([batch for batch in await desk.drain(store) if batch.stream == "t"])
        await desk.close(store)
    assert {costs[page] for page in [0, *interior]} == {0}
    assert 1 <= max(costs.values()) <= 8


@pytest.mark.parametrize("size", [0, 1, 500])
async def test_what_the_log_holds_outlives_the_file(desk, size):
    store = await desk.open()
    await desk.feed(store, 10)
    await store.commit()
    files = {path: path.read_bytes() for path in desk.folder.glob("gateway.db*") if path.suffix != ".db-shm"}
    await desk.crash(store)
    for path, content in files.items():
        path.write_bytes(content if path.suffix == ".db-wal" else content[:size])
    store = await desk.open()
    await salvage(store)
    assert [b.seq for b in await desk.drain(store) if b.stream == "t"] == list(range(1, 11))


async def test_a_file_that_breaks_while_the_agent_runs_is_replaced(desk):
    store = await desk.open()
    await desk.feed(store, 200, 50)
    await store.commit()
    flying = [await desk.take(store) for _ in range(5)]
    await store._writer._call(store._writer._disk._db.execute, "PRAGMA wal_checkpoint(TRUNCATE)")
    path = desk.folder / "gateway.db"
    pages = path.stat().st_size // opening.PAGE
    for page in range(pages // 2, pages // 2 + 4):
        overwrite(path, page * opening.PAGE, b"\xa5" * opening.PAGE)
    await store._writer._call(store._writer._disk._db.execute, "PRAGMA shrink_memory")
    await desk.feed(store, 3)
    found = await desk.drain(store)
    for _ in range(10):
        await salvage(store)
        await store.commit()
        desk.hands.now += 60
        found += await desk.drain(store)
    for batch in flying:
        assert store.settle(batch.epoch, batch.stream, ((batch.seq, batch.seq),)) == 1
    desk.check(store)
    seqs = {b.seq for b in [*flying, *found] if b.stream == "t"}
    gone = set()
    for batch in found:
        if batch.stream == "e":
            for entry in msgpack.unpackb(batch.data)["data"].get("dropped", []):
                gone |= {n for a, b in entry["ranges"] for n in range(a, b + 1)}
    assert len(seqs) > 150
    assert seqs | gone == set(range(1, 204))
    assert not seqs & gone
    assert ("store-replaced", "raised") in event_codes(found)
    assert store.stats()["pending"] == 0


async def test_a_file_of_a_later_version_is_left_alone(desk):
    await filled(desk, 10, clean=True)
    path = desk.folder / "gateway.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version=99")
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = path.read_bytes()
    store = await desk.open()
    assert (desk.folder / "gateway.db.newer-1").read_bytes() == before
    assert store.epoch.startswith("2-")
    await desk.feed(store)
    batches = await desk.drain(store)
    assert event_codes(batches) == [("store-newer", "raised")]
    assert len(batches) == 2


async def test_a_page_in_the_place_of_a_later_one_does_not_lead_round_in_circles(desk):
    epoch = await filled(desk)
    path = desk.folder / "gateway.db"
    for page in range(60, 66):
        early = path.read_bytes()[(page - 20) * opening.PAGE :][: opening.PAGE]
        overwrite(path, page * opening.PAGE, early)
    for page in range(66, 72):
        overwrite(path, page * opening.PAGE, b"\xa5" * opening.PAGE)
    store = await desk.open()
    for _ in range(100):
        await store.step()
    assert not store._writer.salvaging
    old = [b.seq for b in await desk.drain(store) if b.epoch == epoch]
    assert len(old) > 300
    assert old == sorted(set(old))


@pytest.mark.parametrize(
    "nonsense",
    [
        "UPDATE run SET e=NULL,c=NULL,t=NULL",
        "UPDATE run SET ended='perhaps'",
        "INSERT INTO run VALUES(4398046511104,'x-0','',0,0,0)",
        "INSERT INTO state VALUES('.lost',x'c1')",
        "INSERT INTO state VALUES('.lost',x'81a3616263910a')",
        "INSERT INTO state VALUES('.anchors',x'05')",
        "INSERT INTO state VALUES('.salvage',7)",
    ],
)
async def test_nonsense_in_the_small_tables_is_left_behind_and_the_batches_brought_over(desk, nonsense):
    epoch = await filled(desk, 30, clean=True)
    with contextlib.closing(sqlite3.connect(desk.folder / "gateway.db")) as db, db:
        db.execute("DELETE FROM state")
        db.execute(nonsense)
    store = await desk.open()
    await salvage(store)
    batches = await desk.drain(store)
    assert event_codes(batches) == [("store-replaced", "raised"), ("store-replaced", "cleared")]
    assert [b.seq for b in batches if b.epoch == epoch] == list(range(1, 31))
    assert await store.births() == [("meter-1", "a1b2c3d4", {"points": []})]


async def test_a_birth_or_a_state_that_cannot_be_read_is_as_if_it_was_not_there(desk):
    await filled(desk, 1, clean=True)
    with contextlib.closing(sqlite3.connect(desk.folder / "gateway.db")) as db, db:
        db.execute("UPDATE birth SET body=x'81a161'")
    store = await desk.open()
    assert await store.births() == []
    await store.save_state("counters", {"total": 7})
    with contextlib.closing(sqlite3.connect(desk.folder / "gateway.db")) as db, db:
        db.execute("UPDATE state SET value=x'81a5' WHERE key='counters'")
    assert await store.load_state("counters") is None


async def test_a_schema_that_is_not_even_text_is_moved_aside(desk):
    await filled(desk, 30, clean=True)
    path = desk.folder / "gateway.db"
    overwrite(path, path.read_bytes().index(b"device,cfg,body"), b"dev\xe9ce")
    store = await desk.open()
    await salvage(store)
    assert event_codes(await desk.drain(store)) == [("store-replaced", "raised"), ("store-replaced", "cleared")]


@pytest.mark.parametrize(
    ("columns", "damaged"),
    [
        (b"epoch,ended", b"epoch,endee"),
        (b"epoch,ended", b"epochlended"),
        (b"zipped,origin", b"zippedlorigin"),
        (b"id INTEGER PRIMARY", b"id INTEGER PRAMARY"),
    ],
)
async def test_a_schema_with_other_columns_is_moved_aside(desk, columns, damaged):
    """Reading finds nothing wrong; the first write would fail, now and for ever."""
    epoch = await filled(desk, 30, clean=True)
    path = desk.folder / "gateway.db"
    overwrite(path, path.read_bytes().index(columns), damaged)
    store = await desk.open()
    await salvage(store)
    batches = await desk.drain(store)
    assert event_codes(batches) == [("store-replaced", "raised"), ("store-replaced", "cleared")]
    assert [b.seq for b in batches if b.epoch == epoch] == list(range(1, 31))


async def test_a_damaged_row_id_does_not_hide_its_neighbours(desk):
    """A search passes over what stands behind an id that is too large; not every file is looked through."""
    epoch = await filled(desk, 200, clean=True)
    path = desk.folder / "gateway.db"
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE large AS SELECT zeroblob(5000000)")
        (identity,) = db.execute("SELECT id FROM batch WHERE id & 0xffff = 50").fetchone()
    number = bytes(0x80 | identity >> shift & 0x7F for shift in range(57, 7, -7)) + bytes([identity & 0xFF])
    data = path.read_bytes()
    assert data.count(number) == 1, "not on a page that leads to others"
    at = data.index(number) + 1
    overwrite(path, at, bytes([data[at] ^ 1]))
    store = await desk.open()
    await salvage(store)
    seqs = [b.seq for b in await desk.drain(store) if b.epoch == epoch]
    assert seqs == [n for n in range(1, 201) if n != 50]


@pytest.mark.parametrize("clean", [True, False])
async def test_a_leaf_in_the_place_of_the_root_is_noticed(desk, clean):
    """SQLite reads it as a tree with few rows, and finds nothing wrong."""
    epoch = await filled(desk, 200, clean=clean)
    path = desk.folder / "gateway.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        root = db.execute("SELECT rootpage FROM sqlite_master WHERE name='batch'").fetchone()[0] - 1
    data = path.read_bytes()
    leaf = data[:: opening.PAGE].rindex(b"\x0d")
    overwrite(path, root * opening.PAGE, data[leaf * opening.PAGE :][: opening.PAGE])
    store = await desk.open()
    await salvage(store)
    assert sorted(b.seq for b in await desk.drain(store) if b.epoch == epoch) == list(range(1, 201))


@pytest.mark.parametrize(("at", "damaged"), [(18, b"\x42"), (60, b"\x80\0\0\2")], ids=["write version", "our version"])
async def test_a_header_that_makes_no_sense_costs_nothing(desk, at, damaged):
    """SQLite would take the first for a file that it may only read, which looks like trouble of the disk."""
    epoch = await filled(desk, 30, clean=True)
    overwrite(desk.folder / "gateway.db", at, damaged)
    store = await desk.open()
    await salvage(store)
    batches = await desk.drain(store)
    assert event_codes(batches) == [("store-replaced", "raised"), ("store-replaced", "cleared")]
    assert [b.seq for b in batches if b.epoch == epoch] == list(range(1, 31))


async def test_damaged_files_do_not_pile_up(desk):
    for _ in range(5):
        await desk.close(await desk.open())
        (desk.folder / "gateway.db").write_bytes(b"nonsense" * 1000)
    await desk.open()
    names = sorted(p.name for p in desk.folder.glob("*.corrupt-?"))
    assert names == ["gateway.db.corrupt-4", "gateway.db.corrupt-5"]


async def test_a_database_without_our_tables_is_moved_aside(desk):
    desk.folder.mkdir()
    with contextlib.closing(sqlite3.connect(desk.folder / "gateway.db")) as db:
        db.execute("CREATE TABLE batch(x)")
        db.execute("PRAGMA user_version=1")
        db.commit()
    store = await desk.open()
    await desk.feed(store)
    assert event_codes(await desk.drain(store)) == [("store-replaced", "raised")]
