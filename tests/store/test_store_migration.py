"""A store that an earlier version wrote: what it holds goes out under the keys that it had."""

from __future__ import annotations

import sqlite3
import zlib
from contextlib import closing

import msgpack

VERSION_1 = """
CREATE TABLE batch(id INTEGER PRIMARY KEY,kept,n,t0,m0,clk,zipped,origin,crc,data);
CREATE TABLE run(n INTEGER PRIMARY KEY,token,ended,e,c,t);
CREATE TABLE state(key PRIMARY KEY,value) WITHOUT ROWID;
CREATE TABLE birth(device,cfg,body,last,PRIMARY KEY(device,cfg)) WITHOUT ROWID;
PRAGMA user_version=1;
"""
TOKEN, BOOT = "0123456789abcdef", "b" * 12
BLOCKS = msgpack.packb([["m", "c", ["p"], [0], [[0, [7]]], []]])


def write_version_1(folder, batches):
    """What version 1 left behind after so many batches in its run number 1, and a kill."""
    folder.mkdir(parents=True)
    with closing(sqlite3.connect(folder / "gateway.db", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.executescript(VERSION_1)
        db.execute("INSERT INTO run VALUES(1,?,'',0,0,0)", (TOKEN,))
        db.execute("INSERT INTO birth VALUES('m','c',?,1)", (msgpack.packb({"n": 1}),))
        for seq in range(1, batches + 1):
            identity = 2 << 61 | 1 << 40 | seq
            head = f"{identity} 1 1700000000000 1000 synced 0 {TOKEN}{BOOT}"
            crc = zlib.crc32(BLOCKS, zlib.crc32(head.encode()))
            row = (identity, 0, 1, 1700000000000, 1000, "synced", 0, TOKEN + BOOT, crc, BLOCKS)
            db.execute("INSERT INTO batch VALUES(?,?,?,?,?,?,?,?,?,?)", row)


async def test_batches_of_version_1_keep_their_epoch(desk):
    write_version_1(desk.folder, 3)
    store = await desk.open()
    (earlier,) = store.earlier_epochs()
    assert (earlier["epoch"], earlier["ended"], earlier["pending"]) == (f"1-{TOKEN}", "unclean", [[1, 3]])
    assert await store.births() == [("m", "c", {"n": 1})]
    batches = await desk.drain(store)
    assert [(batch.epoch, batch.seq, batch.boot) for batch in batches] == [(f"1-{TOKEN}", n, BOOT) for n in (1, 2, 3)]
    assert desk.values(batches) == [7, 7, 7]
    assert store.epoch.startswith("2-")


async def test_a_damaged_file_of_version_1_is_salvaged(desk):
    write_version_1(desk.folder, 200)
    path = desk.folder / "gateway.db"
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4096] = bytes(4096)
    path.write_bytes(data)
    store = await desk.open()
    while store._writer.salvaging:
        await store.step()
    batches = [batch for batch in await desk.drain(store) if batch.stream == "t"]
    assert {batch.epoch for batch in batches} == {f"1-{TOKEN}"}
    assert 100 < len(batches) < 200
