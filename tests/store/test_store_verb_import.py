"""`gateway store import`, as a user runs it: from a stick into another store, and out of that again."""

from __future__ import annotations

import os

import msgpack
import pytest

from drivers.base import Sample
from gateway.model import Readings, StoreSettings
from gateway.store import Store, opening
from gateway.uplink.payload.batch_file import MAGIC, record
from gateway.uplink.payload.native import message


async def taken(folder, hands, **settings):
    """Everything that a store would send, by its key."""
    store = Store(StoreSettings(path=str(folder), **settings), hands.clock())
    await store.open()
    found = {}
    for _ in range(200):
        while (batch := store.take()) is not None:
            found[batch.key] = batch
        await store.commit()
    births, earlier = await store.births(), store.earlier_epochs()
    await store.close()
    return found, births, earlier


def other(verbs, tmp_path, desk, **options):
    """The verbs of another gateway's folder with the same id, unless told otherwise."""
    gateway = verbs(**options)
    folder = tmp_path / "replaced"
    folder.mkdir(exist_ok=True)
    gateway.config.write_text(gateway.config.read_text(encoding="utf-8").replace(str(desk.folder), str(folder)))
    gateway.store, gateway.file = folder, folder / "gateway.db"
    return gateway


async def test_from_store_to_stick_to_another_store_and_out_again(
    desk, verbs, usb, tmp_path, hands, records, told, filled
):
    epoch = await filled(desk)
    assert verbs()("store", "export", usb).returncode == 0
    second = other(verbs, tmp_path, desk)
    for _ in range(3):  # it has had runs of its own
        await taken(second.store, hands)
    shown = second("store", "import", *sorted(usb.iterdir()))
    assert shown.returncode == 0, shown.stderr
    assert "6 batches (24 readings) imported" in shown.stdout
    assert "systemctl start gateway" in shown.stdout
    found, births, earlier = await taken(second.store, hands)
    published = {}
    for path in usb.iterdir():
        for name, content in records(path):
            if name.endswith(("/up/telemetry", "/up/event")) or "/up/cmd/" in name:
                body = msgpack.unpackb(content)
                published[epoch, body.get("stream", "t"), body["seq"]] = content
    assert {key: message("gw-1", batch) for key, batch in found.items() if key[0] == epoch} == published
    values = [v for key, content in sorted(published.items()) if key[1] == "t" for _, n, _, v, _ in told(content)]
    assert [v for v in values if isinstance(v, int) and v < 2**62] == list(range(20))
    assert [(device, cfg, body["points"]) for device, cfg, body in births] == [
        ("meter-1", "a1b2c3d4", [{"name": "point_0", "unit": "V"}])
    ]
    (entry,) = [one for one in earlier if one["epoch"] == epoch]
    assert (entry["ended"], entry["highest_on_disk"], entry["pending"]) == ("clean", 6, [[1, 6]])
    assert second.json("store", "verify")["sound"]


async def test_a_batch_that_is_there_already_is_left_out(desk, verbs, usb, hands, filled, rows_of):
    await filled(desk, keep_acked=10**6)
    gateway = verbs()
    assert gateway("store", "export", usb).returncode == 0
    before = rows_of(gateway.file)
    told = gateway.json("store", "import", *usb.iterdir())
    assert [(one["new"], one["known"]) for one in sorted(told["files"], key=lambda f: f["stream"])] == [
        (0, 1), (0, 1), (0, 6),
    ]  # fmt: skip
    assert rows_of(gateway.file) == before
    store = await desk.open(keep_acked=10**6)
    await desk.drain(store)
    await desk.close(store)
    told = gateway.json("store", "import", *usb.iterdir())
    assert sum(one["new"] for one in told["files"]) == 0


async def test_imported_batches_are_freed_by_their_own_key(desk, verbs, usb, tmp_path, hands, filled, rows_of):
    await filled(desk)
    assert verbs()("store", "export", usb).returncode == 0
    second = other(verbs, tmp_path, desk)
    await taken(second.store, hands)
    assert second("store", "import", *usb.iterdir()).returncode == 0
    store = Store(StoreSettings(path=str(second.store)), hands.clock())
    await store.open()
    for _ in range(20):
        while (batch := store.take()) is not None:
            assert store.settle(batch.epoch, batch.stream, ((batch.seq, batch.seq),)) == 1
        await store.commit()
    assert store.stats()["pending"] == 0
    await store.close()
    assert rows_of(second.file) == []


async def test_files_of_another_gateway_are_refused_and_nothing_is_taken(desk, verbs, usb, tmp_path, filled):
    await filled(desk)
    assert verbs()("store", "export", usb).returncode == 0
    second = other(verbs, tmp_path, desk, gateway="gw-2")
    shown = second("store", "import", *usb.iterdir())
    assert shown.returncode == 1
    assert "it holds readings of gateway 'gw-1', and this store is of 'gw-2'" in shown.stderr
    assert second.json("store", "status")["waiting"]["batches"] == 0


async def test_of_a_file_that_is_cut_short_everything_whole_is_taken(desk, verbs, usb, tmp_path, hands, filled):
    epoch = await filled(desk, 100)
    assert verbs()("store", "export", usb).returncode == 0
    (path,) = usb.glob("*-t-*")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4])
    second = other(verbs, tmp_path, desk)
    shown = second("store", "import", path)
    assert shown.returncode == 1
    assert "cut short" in shown.stderr
    found, _, _ = await taken(second.store, hands)
    short = len([key for key in found if key[0] == epoch])
    assert 60 < short < 90
    path.write_bytes(whole)
    told = second.json("store", "import", path)["files"][0]
    assert (told["new"], told["known"]) == (101 - short, short)


async def test_what_no_gateway_writes_is_not_taken(desk, verbs, usb, tmp_path, filled):
    await filled(desk)
    gateway = verbs()
    assert gateway("store", "export", usb).returncode == 0
    (path,) = usb.glob("*-t-*")
    good = path.read_bytes()
    second = other(verbs, tmp_path, desk)
    topic = "city/v1/gw-1/up/telemetry"
    epoch = path.name.split("-t-")[0].removeprefix("gw-1-")
    wrong = {"v": 1, "gw": "gw-1", "epoch": epoch, "boot": "b", "t0": 1, "m0": 1, "clk": "synced"}
    bodies = [
        b"\xc1",
        wrong | {"seq": 2**50, "d": b"\x90"},
        wrong | {"seq": 1, "epoch": "8-aaaaaaaaaaaaaaaa", "d": b"\x90"},
        wrong | {"seq": 1, "clk": "guessed", "d": b"\x90"},
        wrong | {"seq": 1, "t0": 2**63 - 1, "d": b"\x90"},
        wrong | {"seq": 1, "part": [1, 2], "d": b"\x90"},
        wrong | {"seq": 1, "d": []},
        {"v": 1, "gw": "gw-1", "epoch": epoch, "stream": "e", "seq": 1, "ts": 1, "clk": "synced"},
    ]
    start = good[: len(MAGIC)] + good[len(MAGIC) : good.index(topic.encode()) - 2]
    packed = [body if isinstance(body, bytes) else msgpack.packb(body) for body in bodies]
    end = record("end", msgpack.packb({"messages": len(bodies) + 1}))
    path.write_bytes(start + b"".join(record(topic, body) for body in packed) + end)
    shown = second("store", "import", path)
    assert shown.returncode == 1
    assert f"{len(bodies)} messages are not what a gateway writes" in shown.stderr
    assert second.json("store", "status")["waiting"]["batches"] == 0


async def test_a_full_store_stops_the_import_and_drops_nothing(desk, verbs, usb, tmp_path, hands):
    store = await desk.open()
    for _ in range(120):
        samples = [Sample(f"p{i}", os.urandom(40).hex()) for i in range(500)]
        await store.append(Readings("meter-1", "a1b2c3d4", int(hands.now * 1000), samples))
        store.flush()
    epoch = store.epoch
    await desk.close(store)
    assert verbs()("store", "export", usb).returncode == 0
    second = other(verbs, tmp_path, desk, max_size="8MB")
    own = Store(StoreSettings(path=str(second.store), max_size=8_000_000), hands.clock())
    await own.open()
    for _ in range(100):
        await own.append(
            Readings("m", "c", int(hands.now * 1000), [Sample(f"p{i}", os.urandom(40).hex()) for i in range(500)])
        )
        own.flush()
    await own.close()
    waiting = second.json("store", "status")["waiting"]["batches"]
    shown = second("store", "import", *usb.iterdir())
    assert shown.returncode == 1
    assert "The store is full" in shown.stderr
    status = second.json("store", "status")
    (mine,) = [one for one in status["epochs"] if one["epoch"] == own.epoch]
    assert mine["waiting"]["t"] == waiting
    assert status["used_bytes"] < 8_000_000
    found, _, _ = await taken(second.store, hands, max_size=8_000_000)
    assert len([key for key in found if key[0] == own.epoch]) == waiting
    assert epoch


@pytest.mark.parametrize("step", [2, 4, 7])
async def test_an_import_that_is_killed_can_be_done_again(desk, verbs, usb, tmp_path, hands, filled, step):
    epoch = await filled(desk, 300)
    assert verbs()("store", "export", usb).returncode == 0
    second = other(verbs, tmp_path, desk)
    await taken(second.store, hands)
    fault = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e")
    killed = second("store", "import", *usb.iterdir(), prefix=(*fault, f"inject=fdatasync:signal=KILL:when={step}"))
    assert killed.returncode != 0
    await taken(second.store, hands)  # the agent starts in between
    assert second("store", "import", *usb.iterdir()).returncode == 0
    found, _, earlier = await taken(second.store, hands)
    assert len([key for key in found if key[0] == epoch]) == 303
    assert len([one for one in earlier if one["epoch"] == epoch]) == 1
    assert second.json("store", "verify")["sound"]


async def test_the_agents_user_owns_what_root_imports(desk, verbs, usb, tmp_path, filled):
    await filled(desk)
    assert verbs()("store", "export", usb).returncode == 0
    second = other(verbs, tmp_path, desk)
    inside = f'chown 12345:12345 "{second.store}" && exec "$@"'
    shown = second("store", "import", *usb.iterdir(), prefix=("sh", "-c", inside, "sh"))
    assert shown.returncode == 0, shown.stderr
    assert {path.stat().st_uid for path in second.store.iterdir()} == {12345}


async def test_a_store_that_cannot_take_anything_is_told(desk, verbs, usb, tmp_path, filled):
    await filled(desk, 300)
    assert verbs()("store", "export", usb).returncode == 0
    second = other(verbs, tmp_path, desk)
    inside = f'mount -t tmpfs -o size=40k none "{second.store}" && exec "$@"'
    shown = second("store", "import", *usb.iterdir(), prefix=("unshare", "-rm", "sh", "-c", inside, "sh"))
    assert shown.returncode == 1
    assert "cannot be written: database or disk is full" in shown.stderr
    second.file.write_bytes(b"no database at all" * 1000)
    shown = second("store", "import", *usb.iterdir())
    assert shown.returncode == 1
    assert "is damaged: file is not a database. Start the agent once" in shown.stderr
    second.file.unlink()
    with opening.connect(second.file, 1000) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    shown = second("store", "import", *usb.iterdir())
    assert shown.returncode == 1
    assert "written by a later version" in shown.stderr


async def test_import_needs_a_folder_and_files(desk, verbs, usb, tmp_path):
    gateway = verbs()
    shown = gateway("store", "import", usb / "none.gwb")
    assert shown.returncode == 1
    assert "start the agent once" in shown.stderr
    desk.folder.mkdir()
    shown = gateway("store", "import", usb / "none.gwb")
    assert shown.returncode == 1
    assert "none.gwb cannot be read: No such file or directory" in shown.stderr
    (usb / "text.gwb").write_text("hello")
    shown = gateway("store", "import", usb / "text.gwb")
    assert shown.returncode == 1
    assert "it is no file of `gateway store export`" in shown.stderr
