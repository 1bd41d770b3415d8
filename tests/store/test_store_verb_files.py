"""`gateway store export` and `import`, as a user runs them: what travels on a stick, and what can go wrong with it."""

from __future__ import annotations

import os
import sqlite3

import msgpack
import pytest

from drivers.base import Sample
from gateway.__main__ import main
from gateway.model import Readings, StoreSettings
from gateway.store import Store, exporting, look, opening
from gateway.uplink.payload.batch_file import MAGIC, record
from gateway.uplink.payload.native import message

BIRTH = {"v": 1, "gw": "gw-1", "device": "meter-1", "cfg": "a1b2c3d4", "points": [{"name": "point_0", "unit": "V"}]}


@pytest.fixture
def usb(tmp_path):
    folder = tmp_path / "usb của tôi"
    folder.mkdir()
    return folder


async def filled(desk, batches=5, **settings):
    """A store with a birth, readings of every kind and two messages; closed. Returns its epoch."""
    store = await desk.open(**settings)
    await store.remember_birth("meter-1", "a1b2c3d4", BIRTH)
    await desk.feed(store, batches)
    odd = [Sample("nhiệt", 21.5), Sample("cửa", "mở"), Sample("lạ", None, "bad:timeout"), Sample("to", 2**62)]
    await store.append(Readings("meter-2", "a1b2c3d4", int(desk.hands.now * 1000), odd))
    await store.append_message("e", {"id": "x", "code": "device-dead", "text": "đồng hồ chết", "data": {"n": 1}})
    await store.append_message("c", {"id": "job/7", "state": "succeeded"})
    await desk.close(store)
    return store.epoch


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


def rows_of(path):
    with sqlite3.connect(path) as db:
        found = db.execute("SELECT * FROM batch ORDER BY id").fetchall()
    db.close()
    return found


def other(verbs, tmp_path, desk, **options):
    """The verbs of another gateway's folder with the same id, unless told otherwise."""
    gateway = verbs(**options)
    folder = tmp_path / "replaced"
    folder.mkdir(exist_ok=True)
    gateway.config.write_text(gateway.config.read_text(encoding="utf-8").replace(str(desk.folder), str(folder)))
    gateway.store, gateway.file = folder, folder / "gateway.db"
    return gateway


# ---- export


async def test_files_hold_births_and_the_messages_as_published(desk, verbs, usb, records, told):
    epoch = await filled(desk)
    gateway = verbs()
    before = rows_of(gateway.file)
    shown = gateway("store", "export", usb)
    assert shown.returncode == 0, shown.stderr
    names = [f"gw-1-{epoch}-c-1-1.gwb", f"gw-1-{epoch}-e-1-1.gwb", f"gw-1-{epoch}-t-1-6.gwb"]
    assert sorted(path.name for path in usb.iterdir()) == names
    assert all(name in shown.stdout for name in names)
    assert f"gateway ioc read '{usb}'/*.gwb --json" in shown.stdout
    (head, about), (birth, body), *messages, (end, count) = records(usb / names[2])
    assert (head, end) == ("head", "end")
    assert msgpack.unpackb(about) == {
        "v": 1, "gw": "gw-1", "prefix": "city", "epoch": epoch, "stream": "t", "first": 1, "last": 6,
        "ended": "clean", "high": 6,
    }  # fmt: skip
    assert msgpack.unpackb(count) == {"messages": 7}
    assert birth == "city/v1/gw-1/up/birth/meter-1/a1b2c3d4"
    assert '"unit":"V"' in body.decode()
    assert {name for name, _ in messages} == {"city/v1/gw-1/up/telemetry"}
    bodies = [msgpack.unpackb(content) for _, content in messages]
    assert [(b["epoch"], b["seq"], b["hist"]) for b in bodies] == [(epoch, seq, True) for seq in range(1, 7)]
    rows = [row for _, content in messages for row in told(content)]
    assert [value for _, name, _, value, _ in rows if name.startswith("point_")] == list(range(20))
    assert {(name, value, code) for device, name, _, value, code in rows if device == "meter-2"} == {
        ("nhiệt", 21.5, "good"), ("cửa", "mở", "good"), ("lạ", None, "bad:timeout"), ("to", 2**62, "good"),
    }  # fmt: skip
    (_, (event, _), _) = records(usb / names[1])
    (_, (result, _), _) = records(usb / names[0])
    assert (event, result) == ("city/v1/gw-1/up/event", "city/v1/gw-1/up/cmd/job_7")
    assert rows_of(gateway.file) == before


async def test_what_is_kept_goes_along_when_asked_for(desk, verbs, usb, tmp_path):
    store = await desk.open(keep_acked=10**6)
    await desk.feed(store, 4)
    await desk.drain(store)
    await desk.close(store)
    gateway = verbs()
    shown = gateway("store", "export", usb)
    assert (shown.returncode, shown.stdout) == (0, "Nothing waits: there was nothing to write.\n")
    assert gateway.json("store", "export", usb) == {"files": []}
    (file,) = gateway.json("store", "export", "--kept", usb)["files"]
    assert (file["first"], file["last"], file["readings"]) == (1, 4, 16)


async def test_a_long_backlog_becomes_files_of_a_bounded_size(desk, verbs, usb, records, monkeypatch):
    store = await desk.open()
    await desk.feed(store, 40, count=50)
    await desk.close(store)
    monkeypatch.setattr(exporting, "FILE_BYTES", 4000)
    assert main(["store", "export", str(usb), "--config", str(verbs().config)]) == 0
    files = sorted(usb.iterdir(), key=lambda path: int(path.stem.split("-")[-2]))
    assert len(files) >= 4
    assert max(path.stat().st_size for path in files) < 4500
    spans = [tuple(map(int, path.stem.split("-")[-2:])) for path in files]
    assert [first for first, _ in spans] == [1, *(last + 1 for _, last in spans[:-1])]
    assert spans[-1][1] == 40
    numbers = [msgpack.unpackb(c)["seq"] for f in files for n, c in records(f) if n.endswith("telemetry")]
    assert numbers == list(range(1, 41))


async def test_times_from_before_the_clock_was_set_are_corrected(desk, verbs, usb, hands, records, told):
    unset = hands.clock(synchronised=lambda: False)
    unset.trust = "kernel"
    unset.state = "unsynced"
    store = await desk.open(clock=unset)
    await desk.feed(store, 1)
    unset.trust = "system"
    unset.look()
    hands.wall_minus_mono += 5_000
    store.take()  # notes the anchor of this boot
    store.release()
    await desk.close(store)
    (file,) = verbs().json("store", "export", usb)["files"]
    message_ = next(msgpack.unpackb(c) for n, c in records(usb / file["file"]) if n.endswith("telemetry"))
    assert message_["clk"] == "corrected"
    assert message_["t0"] == round((hands.now + hands.wall_minus_mono) * 1000)


async def test_of_a_damaged_store_everything_whole_is_written(desk, verbs, usb, records):
    await filled(desk, 300)
    gateway = verbs()
    raw = bytearray(gateway.file.read_bytes())
    raw[20 * opening.PAGE : 21 * opening.PAGE] = b"\xa5" * opening.PAGE
    where = raw.index("đồng hồ chết".encode())
    raw[where] ^= 1
    gateway.file.rename(desk.folder / "old")
    (desk.folder / "gateway.db.corrupt-1").write_bytes(raw)
    shown = gateway("store", "export", usb, "--file", "gateway.db.corrupt-1")
    assert shown.returncode == 0, shown.stderr
    assert "1 batches are damaged and were left out" in shown.stdout
    numbers = {msgpack.unpackb(c)["seq"] for f in usb.glob("*-t-*") for n, c in records(f) if n.endswith("telemetry")}
    assert 200 < len(numbers) < 301
    assert not list(usb.glob("*-e-*"))


async def test_a_store_of_the_first_version_can_be_read(desk, verbs, usb):
    epoch = await filled(desk)
    gateway = verbs()
    with sqlite3.connect(gateway.file) as db:
        db.execute("ALTER TABLE run RENAME COLUMN epoch TO token")
        db.execute("UPDATE run SET token=substr(token,instr(token,'-')+1)")
        db.execute("PRAGMA user_version=1")
    db.close()
    assert gateway.json("store", "status")["epochs"][0]["epoch"] == epoch
    assert gateway.json("store", "verify")["sound"]
    assert {file["epoch"] for file in gateway.json("store", "export", usb)["files"]} == {epoch}


async def test_readings_never_get_the_name_of_another_gateway(desk, verbs, usb):
    await filled(desk)
    shown = verbs(gateway="gw-2")("store", "export", usb)
    assert shown.returncode == 1
    assert "belongs to gateway 'gw-1', and the site file names 'gw-2'" in shown.stderr
    assert list(usb.iterdir()) == []


async def test_a_store_that_has_lost_its_table_of_runs_still_names_the_epochs(desk, verbs, usb):
    epoch = await filled(desk)
    gateway = verbs()
    with sqlite3.connect(gateway.file) as db:
        db.execute("DELETE FROM run")
    db.close()
    (one,) = gateway.json("store", "status")["epochs"]
    assert (one["epoch"], one["ended"], one["readings"]) == (epoch, "unclean", 24)
    assert {(file["epoch"], file["ended"]) for file in gateway.json("store", "export", usb)["files"]} == {
        (epoch, "unclean")
    }


async def test_what_is_delivered_while_the_export_runs_is_left_out(desk, verbs, usb, records):
    await filled(desk)
    gateway = verbs()
    with look.reading(gateway.file) as db:
        outgoing = exporting.Outgoing(db, "gw-1", "city", kept=False)
        with sqlite3.connect(gateway.file) as agent:
            agent.execute("DELETE FROM batch WHERE id<? OR id%2", (1 << 62,))  # messages, and every other batch
        agent.close()
        (file,) = outgoing.write(usb, lambda size: None)
    assert [path.name for path in usb.iterdir()] == [file.path.name]
    numbers = [msgpack.unpackb(c)["seq"] for n, c in records(file.path) if n.endswith("telemetry")]
    assert numbers == [2, 4, 6]
    assert file.batches == 3


# ---- sticks


async def test_a_stick_without_room_is_told_before_anything_is_written(desk, verbs, usb):
    await filled(desk, 400)
    inside = f'mount -t tmpfs -o size=64k none "{usb}" && "$@"; code=$?; ls "{usb}" >&2; exit $code'
    shown = verbs()("store", "export", usb, prefix=("unshare", "-rm", "sh", "-c", inside, "sh"))
    assert shown.returncode == 1
    assert "has not enough room" in shown.stderr
    assert ".gwb" not in shown.stderr


async def test_a_stick_that_is_mounted_read_only(desk, verbs, usb):
    await filled(desk)
    inside = f'mount -t tmpfs -o ro none "{usb}" && exec "$@"'
    shown = verbs()("store", "export", usb, prefix=("unshare", "-rm", "sh", "-c", inside, "sh"))
    assert shown.returncode == 1
    assert "read-only" in shown.stderr
    assert "Traceback" not in shown.stderr


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("fsync:error=EIO:when=1", "was pulled out, or is failing"),
        ("fsync:error=ENOSPC:when=1", "is full"),
        ("rename:error=EROFS:when=1", "became read-only"),
        ("fsync:error=EIO:when=5", "was pulled out, or is failing"),
    ],
)
async def test_a_stick_that_fails_leaves_no_half_file(desk, verbs, usb, records, fault, says):
    await filled(desk)
    trace = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={fault.split(':')[0]}", "-e", f"inject={fault}")
    shown = verbs()("store", "export", usb, prefix=trace)
    assert shown.returncode == 1
    assert f"{usb} {says}" in shown.stderr
    assert "Traceback" not in shown.stderr
    left = sorted(path.name for path in usb.iterdir())
    assert all(name.endswith(".gwb") for name in left)
    assert len(left) == (2 if fault.endswith("5") else 0)
    for name in left:
        assert name in shown.stdout
        assert records(usb / name)[-1][0] == "end"


async def test_a_file_that_is_there_is_not_overwritten(desk, verbs, usb):
    await filled(desk)
    gateway = verbs()
    assert gateway("store", "export", usb).returncode == 0
    before = {path.name: path.read_bytes() for path in usb.iterdir()}
    shown = gateway("store", "export", usb)
    assert shown.returncode == 1
    assert "is already there, from an earlier export" in shown.stderr
    assert {path.name: path.read_bytes() for path in usb.iterdir()} == before


async def test_a_folder_that_is_not_there(desk, verbs, usb):
    await filled(desk)
    (usb / "file").write_text("x")
    for folder in (usb / "none", usb / "file"):
        shown = verbs()("store", "export", folder)
        assert shown.returncode == 1
        assert "Is the stick plugged in and mounted?" in shown.stderr


# ---- import


async def test_from_store_to_stick_to_another_store_and_out_again(desk, verbs, usb, tmp_path, hands, records, told):
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
    assert births == [("meter-1", "a1b2c3d4", BIRTH)]
    (entry,) = [one for one in earlier if one["epoch"] == epoch]
    assert (entry["ended"], entry["highest_on_disk"], entry["pending"]) == ("clean", 6, [[1, 6]])
    assert second.json("store", "verify")["sound"]


async def test_a_batch_that_is_there_already_is_left_out(desk, verbs, usb, hands):
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


async def test_imported_batches_are_freed_by_their_own_key(desk, verbs, usb, tmp_path, hands):
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


async def test_files_of_another_gateway_are_refused_and_nothing_is_taken(desk, verbs, usb, tmp_path):
    await filled(desk)
    assert verbs()("store", "export", usb).returncode == 0
    second = other(verbs, tmp_path, desk, gateway="gw-2")
    shown = second("store", "import", *usb.iterdir())
    assert shown.returncode == 1
    assert "it holds readings of gateway 'gw-1', and this store is of 'gw-2'" in shown.stderr
    assert second.json("store", "status")["waiting"]["batches"] == 0


async def test_of_a_file_that_is_cut_short_everything_whole_is_taken(desk, verbs, usb, tmp_path, hands):
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


async def test_what_no_gateway_writes_is_not_taken(desk, verbs, usb, tmp_path):
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


async def test_the_agents_user_owns_what_root_imports(desk, verbs, usb, tmp_path):
    await filled(desk)
    assert verbs()("store", "export", usb).returncode == 0
    second = other(verbs, tmp_path, desk)
    inside = f'chown 12345:12345 "{second.store}" && exec "$@"'
    shown = second("store", "import", *usb.iterdir(), prefix=("sh", "-c", inside, "sh"))
    assert shown.returncode == 0, shown.stderr
    assert {path.stat().st_uid for path in second.store.iterdir()} == {12345}


async def test_a_store_that_cannot_take_anything_is_told(desk, verbs, usb, tmp_path):
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
