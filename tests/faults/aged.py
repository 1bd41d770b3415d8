"""Fills a store with so many readings and drains it in a fresh process; prints figures as name=value.

python aged.py FOLDER READINGS
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

from drivers.base import Sample
from gateway.clock import Clock
from gateway.model import Readings, StoreSettings
from gateway.store import Store

BATCH = 600
WINDOW = 64
PAGE_BYTES = 4096


def opened(folder: str) -> Store:
    return Store(StoreSettings(path=folder, max_size=512_000_000), Clock("system"))


async def fill(folder: str, readings: int) -> None:
    store = opened(folder)
    await store.open()
    for first in range(0, readings, BATCH):
        count = min(BATCH, readings - first)
        samples = [Sample(f"p{i % 60}-{i // 60}", (first + i) * 7919 % 65536) for i in range(count)]
        await store.append(Readings("m", "c", first, samples))
        store.flush()
        if first // BATCH % 50 == 0:
            await store.commit()
    await store.close()


def memory() -> float:
    """Resident memory in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES / 2**20


async def drain(folder: str) -> None:
    """Take everything, as the publisher does: a window of batches in flight, live ones beside the backlog."""
    store = opened(folder)
    await store.open()
    running = asyncio.create_task(store.run())
    watching = asyncio.create_task(watch())
    began, readings, disorder, last = time.monotonic(), 0, 0, 0
    flying: list[tuple[str, str, int]] = []
    while store.stats()["pending"]:
        batch = store.take()
        if batch is None:  # the rest is in flight, or on its way from the disk
            settle(store, flying, 0)
            await asyncio.sleep(0)
            continue
        flying.append(batch.key)
        if batch.historical and batch.stream == "t":
            disorder += batch.seq <= last
            last, readings = batch.seq, readings + batch.count
            if batch.seq % 100 == 0:
                await store.append(Readings("m", "c", batch.seq, [Sample("live", batch.seq)]))
        settle(store, flying, WINDOW)
        await asyncio.sleep(0)
    seconds = time.monotonic() - began
    running.cancel()
    watching.cancel()
    await store.close()
    most = max(FIGURES[1], memory())
    rate = readings / seconds
    print(f"readings={readings}\ndisorder={disorder}\nrate={rate}\nwaited={FIGURES[0]}\nmemory={most}")  # noqa: T201


def settle(store: Store, flying: list[tuple[str, str, int]], most: int) -> None:
    while len(flying) > most:
        epoch, stream, seq = flying.pop(0)
        store.settle(epoch, stream, ((seq, seq),))


FIGURES = [0.0, 0.0]
"""How long the loop was kept at most, in s; the most memory, in MiB."""


async def watch() -> None:
    """Keep the figures."""
    while True:
        before = time.monotonic()
        await asyncio.sleep(0.01)
        FIGURES[0] = max(FIGURES[0], time.monotonic() - before - 0.01)
        FIGURES[1] = max(FIGURES[1], memory())


async def empty(folder: str) -> None:
    """A store without a backlog that is as busy."""
    store = opened(folder)
    await store.open()
    for _ in range(3):
        samples = [Sample(f"p{i}", i) for i in range(BATCH)]
        await store.append(Readings("m", "c", 0, samples))
        store.flush()
        await store.commit()
    while (batch := store.take()) is not None:
        store.settle(batch.epoch, batch.stream, ((batch.seq, batch.seq),))
    print(f"memory_empty={memory()}")  # noqa: T201
    await store.close()


def again(what: str, folder: str) -> None:
    """Do it in a fresh process."""
    subprocess.run([sys.executable, __file__, folder, what], check=True)


if __name__ == "__main__":
    if sys.argv[2] == "drain":
        asyncio.run(drain(sys.argv[1]))
    elif sys.argv[2] == "empty":
        asyncio.run(empty(sys.argv[1]))
    else:
        asyncio.run(fill(sys.argv[1], int(sys.argv[2])))
        again("empty", sys.argv[1] + "-empty")
        again("drain", sys.argv[1])
