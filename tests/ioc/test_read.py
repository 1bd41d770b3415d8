"""`gateway ioc read`: files from a stick, as the IOC reads them, whole, damaged and foreign."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgpack
import pytest

from drivers.base import Sample
from gateway.ioc.batch_file import messages, opened
from gateway.ioc.decode import Catalogue
from gateway.model import Batch, Readings
from gateway.uplink.payload.batch_file import MAGIC, Head, end, head, record
from gateway.uplink.payload.native import encode_blocks, message

EPOCH = "7-0123456789abcdef"
BIRTH = {"gw": "gw-1", "device": "meter-1", "cfg": "a1b2c3d4", "points": [{"name": "điện", "unit": "kW.h"}]}


def batch(seq: int, *values: Any) -> Batch:
    zipped, data = encode_blocks([Readings("meter-1", "a1b2c3d4", 5000, [Sample("điện", v) for v in values])], 5000)
    return Batch(EPOCH, "t", seq, "boot", 1_700_000_000_000, 5000, "synced", len(values), zipped, data, historical=True)


def written(batches: list[Batch], *, about: Head | None = None, messages_: int | None = None) -> bytes:
    """A file as docs/store.md describes it."""
    about = about or Head("gw-1", "city", EPOCH, "t", batches[0].seq, batches[-1].seq)
    body = record("city/v1/gw-1/up/birth/meter-1/a1b2c3d4", json.dumps(BIRTH).encode())
    body += b"".join(record("city/v1/gw-1/up/telemetry", message("gw-1", one)) for one in batches)
    return head(about) + body + end(messages_ or len(batches) + 1)


def read(*files: Path, json_: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", "ioc", "read", *map(str, files), *(["--json"] if json_ else [])],
        capture_output=True, text=True, check=False, timeout=60, env=os.environ | {"PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip


@pytest.fixture
def stick(tmp_path):
    def put(name: str, raw: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(raw)
        return path

    return put


def test_readings_have_the_form_of_tail(stick):
    shown = read(stick("one.gwb", written([batch(3, 230.2), batch(4, None)])))
    assert (shown.returncode, shown.stderr) == (0, "2 readings in 2 batches\n")
    assert [json.loads(line) for line in shown.stdout.splitlines()] == [
        {
            "gw": "gw-1", "device": "meter-1", "point": "điện", "ts": 1_700_000_000_000, "value": value,
            "unit": "kW.h", "quality": "good", "epoch": EPOCH, "seq": seq, "hist": True,
        }
        for seq, value in ((3, 230.2), (4, None))
    ]  # fmt: skip
    shown = read(stick("one.gwb", written([batch(3, 230.2)])), json_=False)
    assert shown.stdout == "2023-11-14T22:13:20.000Z gw-1 meter-1 điện 230.2 kW.h good late\n"


def test_a_batch_that_stands_in_two_files_counts_once(stick):
    one, two = stick("1.gwb", written([batch(1, 1), batch(2, 2)])), stick("2.gwb", written([batch(2, 2), batch(3, 3)]))
    shown = read(one, two)
    assert shown.returncode == 0
    assert [json.loads(line)["value"] for line in shown.stdout.splitlines()] == [1, 2, 3]
    assert "1 batches were there twice" in shown.stderr


def test_of_a_truncated_file_everything_whole_is_printed(stick):
    raw = written([batch(seq, seq) for seq in range(1, 21)])
    shown = read(stick("cut.gwb", raw[: len(raw) // 2]), stick("whole.gwb", written([batch(30, 30)])))
    values = [json.loads(line)["value"] for line in shown.stdout.splitlines()]
    assert shown.returncode == 1
    assert values == [*range(1, len(values)), 30]
    assert 6 < len(values) < 14
    assert "cut.gwb: it is cut short after" in shown.stderr
    assert "Copy it from the stick once more" in shown.stderr


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "it is no file of `gateway store export`"),
        (b"PK\x03\x04 a zip", "it is no file of `gateway store export`"),
        (MAGIC, "it is cut short after 0 messages"),
        (MAGIC.replace(b"\r\n", b"\n") + b"x", "changed on its way"),
        (MAGIC + record("head", msgpack.packb({"v": 9})), "it is of version 9, this reader knows 1"),
        (MAGIC + record("head", msgpack.packb({"v": 1, "gw": 5})), "does not say gateway, epoch and stream"),
        (MAGIC + b"\xdd\xff\xff\xff\xff" + b"\x00" * 99, "damaged"),
        (MAGIC + b"\x81" * 5000, "damaged"),
    ],
)
def test_a_foreign_file_is_one_sentence(stick, raw, says):
    shown = read(stick("x.gwb", raw))
    assert shown.returncode == 1
    assert says in shown.stderr
    assert shown.stdout == ""
    assert "Traceback" not in shown.stderr


def test_a_file_that_is_not_there(tmp_path):
    shown = read(tmp_path / "none.gwb", tmp_path)
    assert shown.returncode == 1
    assert "none.gwb cannot be read: No such file or directory" in shown.stderr
    assert "Is a directory" in shown.stderr


def test_messages_of_somebody_else_are_told(stick):
    about = Head("gw-1", "city", EPOCH, "t", 1, 2)
    wrong = record("city/v1/gw-1/up/telemetry", message("gw-2", batch(1, 1)))
    mine = record("city/v1/gw-1/up/telemetry", message("gw-1", batch(2, 2)))
    junk = record("city/v1/gw-1/up/telemetry", b"\xc1")
    shown = read(stick("mixed.gwb", head(about) + wrong + junk + mine + end(3)))
    assert shown.returncode == 1
    assert [json.loads(line)["value"] for line in shown.stdout.splitlines()] == [2]
    assert "2 of its messages do not follow the contract" in shown.stderr


def test_events_are_counted(stick):
    event = Batch(EPOCH, "e", 1, "boot", 1, 1, "synced", 0, False, msgpack.packb({"code": "x"}), historical=True)
    raw = (
        head(Head("gw-1", "city", EPOCH, "e", 1, 1)) + record("city/v1/gw-1/up/event", message("gw-1", event)) + end(1)
    )
    shown = read(stick("e.gwb", raw))
    assert (shown.returncode, shown.stdout) == (0, "")
    assert "0 readings in 0 batches (and 1 events and results of commands)" in shown.stderr


def test_a_missing_or_doubled_message_is_noticed():
    raw = written([batch(1, 1)], messages_=5)
    with pytest.raises(ValueError, match="messages are damaged"):
        list(messages([raw], Catalogue()))


def everything(raw: bytes, size: int = 7) -> tuple[list[Any], str]:
    """The messages that can be read, and the complaint; the file comes in small chunks."""
    found = []
    try:
        for one in messages((raw[i : i + size] for i in range(0, len(raw), size)), Catalogue()):
            found.append(one)  # noqa: PERF402  what came before the error counts
    except ValueError as error:
        return found, str(error)
    return found, ""


def test_cut_anywhere_it_gives_what_is_whole_and_says_so():
    raw = written([batch(seq, seq, f"giá trị {seq}") for seq in range(1, 6)])
    whole, complaint = everything(raw)
    assert (len(whole), complaint) == (5, "")
    before = 0
    for length in range(len(raw)):
        found, complaint = everything(raw[:length], 64)
        assert complaint
        assert found == whole[: len(found)]
        assert len(found) >= before
        before = len(found)
    assert before == 5


def test_no_flipped_bit_ever_becomes_a_reading():
    raw = written([batch(seq, seq, f"giá trị {seq}") for seq in range(1, 4)])
    whole, _ = everything(raw)
    for at in range(len(raw)):
        for bit in (0x01, 0x80):
            broken = bytearray(raw)
            broken[at] ^= bit
            found, complaint = everything(bytes(broken), 4096)
            assert complaint, at
            assert all(one in whole for one in found), at


def test_the_head_tells_what_a_file_holds():
    about = Head("gw-1", "tay-ninh/light", EPOCH, "t", 1, 9, "unclean", 12)
    found, _ = opened([written([batch(1, 1)], about=about)])
    assert found == about
    assert found.name == f"gw-1-{EPOCH}-t-1-9.gwb"
