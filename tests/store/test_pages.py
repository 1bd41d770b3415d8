"""Rows are read from a file's pages as SQLite reads them, also where it finds no way; garbage gives nothing."""

from __future__ import annotations

import contextlib
import io
import random
import shutil
import sqlite3
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.spans import Spans
from gateway.store import frames, opening
from gateway.store.pages import Pages, leaf, rows
from gateway.store.rows import Row, is_whole, row_id

KEEP_LOG = "PRAGMA wal_autocheckpoint=0"
FRAME = 24 + opening.PAGE


def row(seq, size, run=1, origin="0123456789abcdef" + "b" * 12):
    """A whole row with so many bytes of data, which no other row holds."""
    head = Row(row_id("t", run, seq), seq % 2, seq, -(2**40) * seq, seq * 300, "đúng", 1, origin, 0, b"")
    data = random.Random(seq).randbytes(size)
    text = f"{head.id} {head.readings} {head.t0} {head.m0} {head.clk} {head.zipped} {head.origin}"
    whole = head._replace(crc=zlib.crc32(data, zlib.crc32(text.encode())), data=data)
    assert is_whole(whole)
    return whole


def connect(path):
    db = opening.connect(path, 100_000)
    db.execute(KEEP_LOG)
    return db


def insert(db, *wanted):
    db.executemany("INSERT INTO batch VALUES(?,?,?,?,?,?,?,?,?,?)", wanted)


def raw(path, reached=()):
    """What is read without SQLite and whole, ascending."""
    return sorted({found for found in rows(path, Spans(reached)) if found is not None and is_whole(found)})


def by_sqlite(path):
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
        return [Row(*found) for found in db.execute("SELECT * FROM batch ORDER BY id")]


def copied(path):
    """A copy of the file and its log while the database is open: nothing is moved out of the log."""
    copy = path.with_name("copy.db")
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
    return copy


SIZES = (*range(860, 960), 0, 1, 200, 1020, 1984, 2048, 5000, 48 * 1024)
"""Bytes of data: around the largest row that fits into its page, and those with many pages of their own."""


def test_a_sound_file_gives_what_sqlite_gives(tmp_path):
    path = tmp_path / "gateway.db"
    with contextlib.closing(connect(path)) as db:
        insert(db, *(row(seq, size) for seq, size in enumerate(SIZES, 1)))
    assert not path.with_name("gateway.db-wal").exists()
    assert raw(path) == by_sqlite(path) == [row(seq, size) for seq, size in enumerate(SIZES, 1)]


def test_what_only_the_log_holds_is_there_and_what_is_not_committed_is_not(tmp_path):
    path = tmp_path / "gateway.db"
    with contextlib.closing(connect(path)) as db:
        insert(db, *(row(seq, 300) for seq in range(1, 40)))
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        insert(db, *(row(seq, 3000) for seq in range(40, 80)))
        db.execute("DELETE FROM batch WHERE id BETWEEN ? AND ?", (row_id("t", 1, 5), row_id("t", 1, 30)))
        db.execute("PRAGMA cache_size=1")
        db.execute("BEGIN")
        insert(db, *(row(seq, 3000) for seq in range(80, 120)))  # so many that they are in the log already
        copy = copied(path)
        db.execute("ROLLBACK")
    seqs = [*range(1, 5), *range(31, 80)]
    assert [found.id for found in raw(copy)] == [row_id("t", 1, seq) for seq in seqs]
    assert raw(copy) == by_sqlite(copy)


def test_a_log_cut_off_anywhere_gives_what_sqlite_gives(tmp_path):
    path = tmp_path / "gateway.db"
    with contextlib.closing(connect(path)) as db:
        for seq in range(1, 30):
            insert(db, row(seq, 400))
        copy = copied(path)
    log = copy.with_name("copy.db-wal")
    whole = log.read_bytes()
    counts = set()
    for cut in range(700, len(whole), 700):
        log.write_bytes(whole[:cut])
        found = raw(copy)
        with contextlib.suppress(sqlite3.OperationalError):  # the tables are not there yet
            assert found == by_sqlite(copy)
        counts.add(len(found))
    assert len(counts) > 20


def test_rows_that_were_deleted_do_not_come_back(tmp_path):
    path = tmp_path / "gateway.db"
    with contextlib.closing(connect(path)) as db:
        insert(db, *(row(seq, 300 if seq % 7 else 4000) for seq in range(1, 2000)))
        db.execute("DELETE FROM batch WHERE id<?", (row_id("t", 1, 1900),))
        assert db.execute("PRAGMA freelist_count").fetchone()[0] > 500
    data = path.read_bytes()
    assert row(15, 300).data in data, "SQLite has not overwritten it"
    assert [found.id for found in raw(path)] == [row_id("t", 1, seq) for seq in range(1900, 2000)]
    path.write_bytes(bytes(100) + data[100:])  # the header says what is free
    back = [found.id for found in raw(path)]
    assert back[-100:] == [row_id("t", 1, seq) for seq in range(1900, 2000)]
    assert len(back) < 150


def test_rows_that_are_known_are_left_out(tmp_path):
    path = tmp_path / "gateway.db"
    with contextlib.closing(connect(path)) as db:
        insert(db, *(row(seq, 300) for seq in range(1, 100)))
    found = raw(path, [(row_id("t", 1, 1), row_id("t", 1, 98))])
    assert found == [row(99, 300)]


@pytest.mark.parametrize("size", [512, 1024, 4096, 65536])
def test_pages_of_any_size_are_read(tmp_path, size):
    path = tmp_path / "gateway.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"PRAGMA page_size={size}")
        opening.close(connect(path))
        db.execute("PRAGMA journal_mode=WAL")
        db.execute(KEEP_LOG)
        insert(db, *(row(seq, size) for seq, size in enumerate(SIZES, 1)))
        copy = copied(path)
    assert raw(copy) == by_sqlite(copy)
    assert len(raw(path)) == len(SIZES)


@pytest.mark.parametrize("header", [b"", b"SQLite format 3\0\x20\0", b"\xff" * 100])
def test_a_damaged_header_costs_nothing(tmp_path, header):
    path = tmp_path / "gateway.db"
    with contextlib.closing(connect(path)) as db:
        insert(db, *(row(seq, 300) for seq in range(1, 100)))
    path.write_bytes(header.ljust(opening.PAGE, b"\0") + path.read_bytes()[opening.PAGE :])
    assert raw(path) == [row(seq, 300) for seq in range(1, 100)]


def test_a_file_cut_off_gives_what_stands_before_the_cut(tmp_path):
    path = tmp_path / "gateway.db"
    with contextlib.closing(connect(path)) as db:
        insert(db, *(row(seq, 300) for seq in range(1, 100)))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert 40 < len(raw(path)) < 60


def test_a_log_in_either_order_of_bytes_is_read(tmp_path):
    """SQLite writes its checksums in the order of the machine that made the log."""
    path = tmp_path / "gateway.db"
    with contextlib.closing(connect(path)) as db:
        insert(db, *(row(seq, 300) for seq in range(1, 20)))
        log = path.with_name("gateway.db-wal").read_bytes()
    found = {}
    for magic, order in ((0x377F0682, "<"), (0x377F0683, ">")):
        head = struct.pack(">I", magic) + log[4:24]
        last = frames.checksum(order, head, bytes(8))
        turned = head + last
        for at in range(32, len(log), FRAME):
            start, page = log[at : at + 8], log[at + 24 : at + FRAME]
            last = frames.checksum(order, start + page, last)
            turned += start + log[at + 8 : at + 16] + last + page
        found[order] = frames.read(io.BytesIO(turned), opening.PAGE).committed
    assert found["<"] == found[">"] == frames.read(io.BytesIO(log), opening.PAGE).committed
    assert len(found["<"]) > 5


@pytest.fixture
def logged(tmp_path):
    """A database of which everything but its first page is in its log: a commit for each of 60 rows, a large last."""
    path = tmp_path / "gateway.db"
    with contextlib.closing(connect(path)) as db:
        for seq in range(1, 61):
            insert(db, row(seq, 400 if seq < 60 else 5000))
        return copied(path)


def test_a_damaged_frame_of_the_log_costs_what_it_held(logged):
    """SQLite reads the log up to there only."""
    log = logged.with_name("copy.db-wal")
    whole = log.read_bytes()
    last_two = [at for at in range(32, len(whole), FRAME) if any(whole[at + 4 : at + 8])][-3] + FRAME
    for at in range(32, last_two, 5 * FRAME):
        log.write_bytes(whole[: at + 100] + b"\xa5" * 300 + whole[at + 400 :])
        assert frames.is_damaged(log, opening.PAGE)
        assert len(raw(logged)) >= 58
    log.write_bytes(bytes(512) + whole[512:])
    assert frames.is_damaged(log, opening.PAGE)
    assert len(raw(logged)) == 60


def test_behind_a_damaged_frame_an_unfinished_transaction_hides_nothing(tmp_path):
    """A killed agent leaves pages in the log that were never committed, in front of those that were."""
    path = tmp_path / "gateway.db"
    with contextlib.closing(connect(path)) as db:
        for seq in range(1, 61):
            insert(db, row(seq, 400))
        committed = path.with_name("gateway.db-wal").stat().st_size
        db.execute("PRAGMA cache_size=1")
        db.execute("BEGIN")
        db.execute("DELETE FROM batch WHERE id%3")
        copy = copied(path)
        db.execute("ROLLBACK")
    log = copy.with_name("copy.db-wal")
    whole = log.read_bytes()
    assert len(whole) > committed
    for at in (32, 32 + 3 * FRAME):  # pages of the tables' names, before the first row
        log.write_bytes(whole[: at + 100] + b"\xa5" * 300 + whole[at + 400 :])
        assert raw(copy) == [row(seq, 400) for seq in range(1, 61)]


def test_a_log_torn_by_a_power_cut_is_not_damaged(logged):
    """Its last transaction may be there in part, and behind it there may be what is left of an earlier one."""
    log = logged.with_name("copy.db-wal")
    whole = log.read_bytes()
    commits = [at for at in range(32, len(whole), FRAME) if any(whole[at + 4 : at + 8])]
    assert not frames.is_damaged(log, opening.PAGE)
    assert not frames.is_damaged(log.with_name("none"), opening.PAGE)
    for at in range(commits[-2] + FRAME, len(whole), 512):
        log.write_bytes(whole[:at] + bytes(512) + whole[at + 512 :])
        assert not frames.is_damaged(log, opening.PAGE)
    for cut in range(0, len(whole), 999):
        log.write_bytes(whole[:cut])
        assert not frames.is_damaged(log, opening.PAGE)


# ---- garbage ---------------------------------------------------------------------------------------------------------

lengths = st.one_of(st.integers(0, 127), st.integers(0, 2**64 - 1)).map(lambda n: n.to_bytes(9, "big").lstrip(b"\0"))
piece = st.one_of(
    st.binary(max_size=60),
    lengths,
    st.just(bytes(7)),
    st.just(b"\xff" * 9),
    st.binary(min_size=2, max_size=20).map(lambda some: b"\x0d\0\0\x03" + some),
)
garbage = st.lists(piece, max_size=80).map(b"".join)


@settings(max_examples=300)
@given(garbage, garbage, st.booleans())
def test_garbage_gives_no_whole_row_and_raises_nothing(page, other, head):
    first = b"SQLite format 3\0\x04\0" if head else b""
    file = b"".join(part[:1024].ljust(1024, b"\0") for part in (first + other, page, b"\x0d" + page[1:], other))
    log = io.BytesIO(other)
    pages = Pages(io.BytesIO(file), log, 1024, frames.read(log, 1024).behind)
    pages.freed()
    for number in range(1, pages.count + 2):
        assert not [found for found in leaf(pages, number, Spans()) if is_whole(found)]


@pytest.mark.parametrize("seed", range(5))
def test_bytes_changed_anywhere_give_no_row_that_never_was(tmp_path, seed):
    path = tmp_path / "gateway.db"
    with contextlib.closing(connect(path)) as db:
        insert(db, *(row(seq, 300 if seq % 5 else 3000) for seq in range(1, 60)))
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        insert(db, *(row(seq, 500) for seq in range(60, 70)))
        copy = copied(path)
    written = {found._replace(kept=0) for found in by_sqlite(copy)}  # whether it is settled is in no CRC
    chance = random.Random(seed)
    bad = tmp_path / "bad.db"
    for _ in range(40):
        for suffix in ("", "-wal"):
            data = bytearray(copy.with_name(f"copy.db{suffix}").read_bytes())
            for _ in range(chance.choice((1, 10, 1000))):
                data[chance.randrange(len(data))] = chance.choice((0, 0x0D, 0xFF, chance.randrange(256)))
            bad.with_name(f"bad.db{suffix}").write_bytes(data)
        assert {found._replace(kept=0) for found in raw(bad)} <= written


def test_pages_that_lead_round_in_circles_come_to_an_end(tmp_path):
    path = tmp_path / "gateway.db"
    with contextlib.closing(connect(path)) as db:
        insert(db, row(1, 3000), row(2, 3000), row(3, 300))
        db.execute("DELETE FROM batch WHERE id=?", (row_id("t", 1, 2),))
    data = bytearray(path.read_bytes())
    trunk = int.from_bytes(data[32:36], "big")
    data[(trunk - 1) * 1024 : (trunk - 1) * 1024 + 4] = trunk.to_bytes(4, "big")
    begin = data.index(row(1, 3000).data[1100:1200]) // 1024 * 1024
    data[begin : begin + 4] = (begin // 1024 + 1).to_bytes(4, "big")
    path.write_bytes(data)
    assert raw(path) == [row(3, 300)]
