"""The ledger outside of the store: what its process has promised, held against what is found on the disk later."""

from __future__ import annotations

import asyncio
import sqlite3
import traceback
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
from keeper import truth

from drivers.base import Sample
from gateway.clock import Clock
from gateway.model import Batch, Readings, StoreSettings
from gateway.store import Store
from gateway.uplink.payload.native import decode, message

Key = tuple[str, str, int]
"""(epoch, stream, seq)"""


@dataclass
class Promise:
    """What has been said so far."""

    epochs: list[str] = field(default_factory=list)
    committed: dict[tuple[str, str], int] = field(default_factory=dict)
    given: set[Key] = field(default_factory=set)
    settled: set[Key] = field(default_factory=set)
    dropped: set[Key] = field(default_factory=set)
    births: set[tuple[str, str]] = field(default_factory=set)
    saved: list[Any] = field(default_factory=list)

    def hear(self, said: dict[str, Any]) -> None:
        if "epoch" in said:
            self.epochs.append(said["epoch"])
        for stream, seq in said.get("committed", {}).items():
            self.committed[self.epochs[-1], stream] = seq
        if "given" in said:
            self.given.add(key(said["given"]))
        if "settled" in said:
            self.settled.add(key(said["settled"]))
            self.dropped |= set(keys(said["dropped"]))
        if "birth" in said:
            self.births.add(tuple(said["birth"]))
        if "saved" in said:
            self.saved.append(said["saved"])

    def owed(self, strict: bool) -> set[Key]:
        """What must still be there: committed, or, with `strict`, given; not settled, and not announced as dropped."""
        owed = {(epoch, stream, n) for (epoch, stream), last in self.committed.items() for n in range(1, last + 1)}
        return (owed | (self.given if strict else set())) - self.settled - self.dropped


def key(parts: Iterable[Any]) -> Key:
    epoch, stream, seq = parts
    return epoch, stream, seq


def keys(dropped: list[dict[str, Any]]) -> Iterable[Key]:
    """The batches in an announcement: [{epoch, stream, ranges}]."""
    for entry in dropped:
        for first, last in entry["ranges"]:
            yield from ((entry["epoch"], entry["stream"], n) for n in range(first, last + 1))


def weight(batch: Key) -> int:
    """Readings in a batch; a message counts as one."""
    return len(truth(batch[0], batch[2])) if batch[1] == "t" else 1


@dataclass
class Verdict:
    """Of one look: readings lost, values wrong, batches settled that are there once more, and what was seen.

    `unsound` are databases with damage that nobody has met yet; `missing` are the batches behind `lost`.
    """

    lost: int = 0
    wrong: int = 0
    again: int = 0
    unsound: int = 0
    seen: list[str] = field(default_factory=list)
    missing: set[Key] = field(default_factory=set)

    def __add__(self, other: Verdict) -> Verdict:
        seen = [*self.seen, *other.seen][:12]
        numbers = (self.lost + other.lost, self.wrong + other.wrong, self.again + other.again)
        return Verdict(*numbers, self.unsound + other.unsound, seen)

    def is_wrong(self, what: str) -> None:
        self.wrong += 1
        self.seen.append(what)


async def judge(folder: Path, promise: Promise, damaged: bool = False, **settings: Any) -> Verdict:
    """Open the store after the fault and hold everything it gives against the promise.

    `damaged`: something else than the store has changed its files. Then rows may be missing, but nothing may be wrong.
    """
    now = 5000.0
    clock = Clock("system", boot="a" * 12, monotonic=lambda: now, wall=lambda: now + 1.7e9)
    store = Store(StoreSettings(path=str(folder), **{"max_size": 2_000_000, **settings}), clock)
    verdict = Verdict()
    try:
        await store.open()
        await salvaged(store)
        batches = await drain(store)
        await serves(verdict, store)
        _compare(verdict, promise, store, batches, settings.get("durability") == "strict", damaged)
        await _small(verdict, promise, store)
        with closing(sqlite3.connect(folder / "gateway.db")) as db:
            sound = db.execute("PRAGMA integrity_check").fetchone()[0]
        verdict.unsound = sound != "ok"
        if not damaged and (verdict.unsound or list(folder.glob("*corrupt*"))):
            verdict.is_wrong(f"the database is damaged: {sound}")
    except Exception as error:  # noqa: BLE001  (whatever it is, the agent would be down)
        frame = traceback.extract_tb(error.__traceback__)[-1]
        verdict.is_wrong(f"the store is down: {error!r} in {Path(frame.filename).name}:{frame.lineno}")
    finally:
        if store._lock is not None:  # else it has closed itself
            await store._writer.end()
            store._lock.release()
    return verdict


async def salvaged(store: Store) -> None:
    """Let the store bring over what it can of a damaged file."""
    for _ in range(1000):
        if not store._writer.salvaging:
            return
        await store.step()
    raise RuntimeError("salvage does not end")


async def serves(verdict: Verdict, store: Store) -> None:
    """A new batch must go to disk, and be given."""
    await store.append(Readings("m", "c", 0, [Sample("p", 1)]))
    store.flush()
    await store.commit()
    batches = await drain(store)
    if store.stats()["trouble"] or not any(batch.stream == "t" and batch.epoch == store.epoch for batch in batches):
        verdict.is_wrong(f"it does not serve: {store.stats()['trouble']}")


async def drain(store: Store) -> list[Batch]:
    """Take everything, the backlog and the announcements of this run too."""
    batches: list[Batch] = []
    for _ in range(3):
        while True:
            batch = store.take()
            if batch is not None:
                batches.append(batch)
            elif store._writer._tasks:
                await asyncio.gather(*store._writer._tasks)
            elif store._writer.salvaging:  # damage was met only now
                await salvaged(store)
            else:
                break
        await store.commit()  # with `strict` announcements are given only then
    return batches


def _compare(
    verdict: Verdict, promise: Promise, store: Store, batches: list[Batch], strict: bool, damaged: bool
) -> None:
    found = [batch for batch in batches if batch.epoch != store.epoch]
    if store.epoch in promise.epochs or len({batch.key for batch in found}) != len(found):
        verdict.is_wrong("an epoch or a batch twice")
    bodies = [msgpack.unpackb(batch.data) for batch in batches if batch.stream == "e"]
    announced = {one for body in bodies for one in keys(body.get("data", {}).get("dropped", []))}
    verdict.missing = missing = promise.owed(strict) - announced - {batch.key for batch in found}
    if missing:
        verdict.lost += sum(map(weight, missing))
        verdict.seen.append(f"missing: {sorted(missing)[:5]}")
    verdict.again += len(promise.settled & {batch.key for batch in found})
    for batch in found:
        if not batch.historical or batch.epoch not in promise.epochs:
            verdict.is_wrong(f"{batch.key} is not marked historical, or of an epoch that never was")
        elif batch.stream == "t" and values(batch) != truth(batch.epoch, batch.seq):
            verdict.is_wrong(f"{batch.key} holds other values")
    _ordered(verdict, found)
    highest = {entry["epoch"]: entry["highest_on_disk"] for entry in store.earlier_epochs()}
    for epoch, stream, seq in set() if damaged else promise.owed(strict):
        if stream == "t" and highest.get(epoch, seq) < seq:
            verdict.is_wrong(f"{epoch} is said to have reached {highest[epoch]}, and holds {seq}")


def _ordered(verdict: Verdict, found: list[Batch]) -> None:
    for stream in "ect":
        order = [(promised(batch.epoch), batch.seq) for batch in found if batch.stream == stream]
        if order != sorted(order):
            verdict.is_wrong(f"stream {stream} is out of order")


def promised(epoch: str) -> int:
    return int(epoch.partition("-")[0])


def values(batch: Batch) -> list[Any]:
    return [reading.value for reading in decode(message("gw", batch)).readings]


async def _small(verdict: Verdict, promise: Promise, store: Store) -> None:
    """Births and state that were said to be on disk."""
    births = {(device, cfg) for device, cfg, _ in await store.births()}
    if promise.births - births:
        verdict.lost += len(promise.births - births)
        verdict.seen.append(f"births are missing: {sorted(promise.births - births)}")
    found = await store.load_state("turn")
    if promise.saved and (found is None or found in promise.saved[:-1]):
        verdict.lost += 1
        verdict.seen.append(f"the state {promise.saved[-1]} is missing: {found}")
