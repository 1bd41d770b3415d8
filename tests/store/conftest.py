"""A desk to work a store from: real SQLite on disk, a clock whose hands the test turns, an oracle outside."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import zlib
from itertools import accumulate
from pathlib import Path
from typing import Any

import msgpack
import pytest

from drivers.base import Sample
from gateway.model import Batch, Readings, StoreSettings
from gateway.store import Store
from gateway.uplink.payload.native import decode, message


class Desk:
    """Opens stores on one folder and remembers every reading that went in and every batch that came out."""

    def __init__(self, folder: Path, hands: Any) -> None:
        self.folder, self.hands = folder, hands
        self.stores: list[Store] = []
        self.fed = 0
        self.given: dict[tuple[str, str, int], bytes] = {}

    async def open(self, tail_bytes: int = 4 * 2**20, clock: Any = None, **settings: Any) -> Store:
        store = Store(
            StoreSettings(path=str(self.folder), **settings), clock or self.hands.clock(), tail_bytes=tail_bytes
        )
        await store.open()
        self.stores.append(store)
        return store

    async def close(self, store: Store) -> None:
        self.stores.remove(store)
        await store.close()

    async def crash(self, store: Store) -> None:
        """End as kill -9 would: nothing is flushed, nothing is marked."""
        self.stores.remove(store)
        await store._writer.end()
        store._lock.release()

    def readings(self, count: int = 4, device: str = "meter-1") -> Readings:
        """Readings with values never given before, so that each can be found again."""
        samples = [Sample(f"point_{i}", self.fed + i) for i in range(count)]
        self.fed += count
        return Readings(device, "a1b2c3d4", int(self.hands.now * 1000), samples)

    async def feed(self, store: Store, batches: int = 1, count: int = 4) -> None:
        """Append so many batches, each closed at once."""
        for _ in range(batches):
            await store.append(self.readings(count))
            store.flush()

    async def take(self, store: Store, backlog: bool = True, without: tuple[str, ...] = ()) -> Batch | None:
        """Take a batch, waiting for the disk where the next one has to be read from there."""
        for _ in range(3):
            if (batch := store.take(backlog, without)) is not None:
                self.given.setdefault(batch.key, batch.data)
                assert self.given[batch.key] == batch.data, "one key, two contents"
                return batch
            await asyncio.gather(*store._writer._tasks)
        return None

    async def drain(self, store: Store, settle: bool = True) -> list[Batch]:
        """Take all there is, in order."""
        found = []
        while (batch := await self.take(store)) is not None:
            found.append(batch)
            if settle:
                assert store.settle(batch.epoch, batch.stream, ((batch.seq, batch.seq),)) == 1
        self.check(store)
        return found

    async def hand_out(self, store: Store) -> None:
        """Give all there is once, and take it back: only what was given can be settled."""
        await self.drain(store, settle=False)
        store.release()

    @staticmethod
    def values(batches: list[Batch]) -> list[Any]:
        """The values of telemetry batches, in order."""
        return [r.value for b in batches if b.stream == "t" for r in decode(message("gw", b)).readings]

    @staticmethod
    def check(store: Store) -> None:
        """The identity of the counters, in readings and in batches."""
        s = store.stats()
        assert s["recovered"] + s["appended"] == s["acked"] + s["dropped"] + s["pending"], s
        assert (
            s["recovered_batches"] + s["appended_batches"]
            == s["acked_batches"] + s["dropped_batches"] + s["pending_batches"]
        ), s
        assert min(v for k, v in s.items() if isinstance(v, int)) >= 0, s


@pytest.fixture
async def desk(tmp_path, hands):
    desk = Desk(tmp_path / "store", hands)
    yield desk
    for store in list(desk.stores):
        await desk.close(store)


class Verbs:
    """A site file for the desk's store, and the command line as a user has it."""

    def __init__(self, desk: Desk, folder: Path, gateway: str = "gw-1", max_size: str = "64MB", port: int = 1) -> None:
        self.store = desk.folder
        self.file = desk.folder / "gateway.db"
        self.config = folder / f"{gateway}.toml"
        self.config.write_text(
            f"""
[gateway]
id = "{gateway}"
site = "Tây Ninh / Phường 1"
[uplink]
brokers = ["mqtt://127.0.0.1:1"]
[store]
path = "{desk.folder}"
max_size = "{max_size}"
[[bus]]
name = "line"
tcp = {{ host = "127.0.0.1", port = {port} }}
  [[bus.device]]
  name = "meter-1"
  profile = "eastron-sdm630"
  address = 1
  every = "1s"
""",
            encoding="utf-8",
        )

    def __call__(self, *args: Any, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Run `gateway` with these words; the site file is named for the verbs that take one."""
        config = [] if args[0] == "ioc" else ["--config", str(self.config)]
        return subprocess.run(
            [*prefix, sys.executable, "-m", "gateway", *map(str, args), *config],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=os.environ | {"COLUMNS": "200", "PYTHONIOENCODING": "utf-8"},
        )

    def json(self, *args: Any) -> Any:
        shown = self(*args, "--json")
        assert shown.returncode == 0, shown.stderr
        return json.loads(shown.stdout)


@pytest.fixture
def verbs(desk, tmp_path):
    return lambda **options: Verbs(desk, tmp_path, **options)


def told(payload: bytes) -> list[tuple[Any, ...]]:
    """(device, point, ts, value, quality) of a message, read by somebody who has never seen our code."""
    message = msgpack.unpackb(payload)
    data = msgpack.unpackb(zlib.decompress(message["d"]) if message.get("z") == "zlib" else message["d"])
    rows = []
    for device, _, points, dt, columns, quality in data:
        codes = {(p, r): code for p, r, code in quality}
        times = list(accumulate(dt, initial=message["t0"]))[1:]
        for p, (name, (exp, numbers)) in enumerate(zip(points, columns, strict=True)):
            total = 0
            for r, (at, number) in enumerate(zip(times, numbers, strict=True)):
                value = number
                if exp is not None and number is not None:
                    total += number
                    value = float(f"{total}e{exp}") if exp else total
                rows.append((device, name, at, value, codes.get((p, r), "good")))
    return rows


@pytest.fixture(name="told", scope="session")
def _told():
    return told


def records(path: Path) -> list[tuple[str, bytes]]:
    """Every (name, content) of an exported file, by the words of docs/store.md."""
    raw = path.read_bytes()
    assert raw[:8] == b"\x89GWB\r\n\x1a\n"
    unpacker = msgpack.Unpacker()
    unpacker.feed(raw[8:])
    found = []
    for name, content, crc in unpacker:
        assert crc == zlib.crc32(name.encode() + content)
        found.append((name, content))
    return found


@pytest.fixture(name="records", scope="session")
def _records():
    return records


BIRTH = {"v": 1, "gw": "gw-1", "device": "meter-1", "cfg": "a1b2c3d4", "points": [{"name": "point_0", "unit": "V"}]}


@pytest.fixture
def usb(tmp_path):
    folder = tmp_path / "usb của tôi"
    folder.mkdir()
    return folder


async def filled(desk, batches=5, **settings):
    """Fill a store with a birth, readings of every kind and two messages, and close it. Returns its epoch."""
    store = await desk.open(**settings)
    await store.remember_birth("meter-1", "a1b2c3d4", BIRTH)
    await desk.feed(store, batches)
    odd = [Sample("nhiệt", 21.5), Sample("cửa", "mở"), Sample("lạ", None, "bad:timeout"), Sample("to", 2**62)]
    await store.append(Readings("meter-2", "a1b2c3d4", int(desk.hands.now * 1000), odd))
    await store.append_message("e", {"id": "x", "code": "device-dead", "text": "đồng hồ chết", "data": {"n": 1}})
    await store.append_message("c", {"id": "job/7", "state": "succeeded"})
    await desk.close(store)
    return store.epoch


@pytest.fixture(name="filled", scope="session")
def _filled():
    return filled


def rows_of(path):
    """Every row of a store's file."""
    with sqlite3.connect(path) as db:
        found = db.execute("SELECT * FROM batch ORDER BY id").fetchall()
    db.close()
    return found


@pytest.fixture(name="rows_of", scope="session")
def _rows_of():
    return rows_of
