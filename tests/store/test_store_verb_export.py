"""`gateway store export`, as a user runs it: what is written to a stick, and what can go wrong with it."""

from __future__ import annotations

import sqlite3

import msgpack
import pytest

from gateway.__main__ import main
from gateway.store import exporting, look, opening


async def test_files_hold_births_and_the_messages_as_published(desk, verbs, usb, records, told, filled, rows_of):
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


async def test_of_a_damaged_store_everything_whole_is_written(desk, verbs, usb, records, filled):
    await filled(desk, 300)
    gateway = verbs()
    raw = bytearray(gateway.file.read_bytes())
    raw[20 * opening.PAGE : 21 * opening.PAGE] = b"\xa5" * opening.PAGE
    where = raw.index("đồng hồ chết".encode())
    raw[where] ^= 1
    gateway.file.rename(desk.folder / "old")
    (desk.folder / "gateway.db.corrupt-1").write_bytes(raw)
    shown = gateway("store", "export", usb, "--file", "gateway.db.corrupt-1")
    assert shown.returncode == 1, shown.stderr
    assert "1 batches are damaged and were left out" in shown.stdout
    numbers = {msgpack.unpackb(c)["seq"] for f in usb.glob("*-t-*") for n, c in records(f) if n.endswith("telemetry")}
    assert 200 < len(numbers) < 301
    assert not list(usb.glob("*-e-*"))


async def test_a_store_of_the_first_version_can_be_read(desk, verbs, usb, filled):
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


async def test_readings_never_get_the_name_of_another_gateway(desk, verbs, usb, filled):
    await filled(desk)
    shown = verbs(gateway="gw-2")("store", "export", usb)
    assert shown.returncode == 1
    assert "belongs to gateway 'gw-1', and the site file names 'gw-2'" in shown.stderr
    assert list(usb.iterdir()) == []


async def test_a_store_that_has_lost_its_table_of_runs_still_names_the_epochs(desk, verbs, usb, filled):
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


async def test_what_is_delivered_while_the_export_runs_is_left_out(desk, verbs, usb, records, filled):
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


async def test_a_stick_without_room_is_told_before_anything_is_written(desk, verbs, usb, filled):
    await filled(desk, 400)
    inside = f'mount -t tmpfs -o size=64k none "{usb}" && "$@"; code=$?; ls "{usb}" >&2; exit $code'
    shown = verbs()("store", "export", usb, prefix=("unshare", "-rm", "sh", "-c", inside, "sh"))
    assert shown.returncode == 1
    assert "has not enough room" in shown.stderr
    assert ".gwb" not in shown.stderr


async def test_a_stick_that_is_mounted_read_only(desk, verbs, usb, filled):
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
async def test_a_stick_that_fails_leaves_no_half_file(desk, verbs, usb, records, fault, says, filled):
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


async def test_a_file_that_is_there_is_not_overwritten(desk, verbs, usb, filled):
    await filled(desk)
    gateway = verbs()
    assert gateway("store", "export", usb).returncode == 0
    before = {path.name: path.read_bytes() for path in usb.iterdir()}
    shown = gateway("store", "export", usb)
    assert shown.returncode == 1
    assert "is already there, from an earlier export" in shown.stderr
    assert {path.name: path.read_bytes() for path in usb.iterdir()} == before


async def test_a_folder_that_is_not_there(desk, verbs, usb, filled):
    await filled(desk)
    (usb / "file").write_text("x")
    for folder in (usb / "none", usb / "file"):
        shown = verbs()("store", "export", folder)
        assert shown.returncode == 1
        assert "Is the stick plugged in and mounted?" in shown.stderr
