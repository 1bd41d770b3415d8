"""A desk to work a store from: real SQLite on disk, a clock whose hands the test turns, an oracle outside."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

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
