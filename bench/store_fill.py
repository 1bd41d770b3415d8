"""Fills a store with backlog: the agent's own store, on a clock that runs fast.

    python store_fill.py FOLDER READINGS PER_BATCH END

PER_BATCH readings are one batch: meters with four tags, all read once a second. END is `clean` (the agent was stopped)
or `cut` (it was killed: its last words are missing, and its log is not folded in).
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time

from drivers.base import Sample
from gateway.clock import Clock
from gateway.model import Readings, StoreSettings
from gateway.store import Store

NAMES = ("voltage", "current", "power", "energy")
TOGETHER = 250
"""Batches in one transaction."""


class Hands:
    """A clock that is turned by hand: monotonic seconds."""

    def __init__(self, now: float) -> None:
        self.now = now

    def clock(self, wall: float) -> Clock:
        ahead = wall - self.now
        return Clock(trust="system", boot="0123456789ab", monotonic=lambda: self.now, wall=lambda: self.now + ahead)


def values(meters: int, seed: int = 1) -> list[list[Sample]]:
    """Samples of a meter, to be taken one after the other: values that walk."""
    dice = random.Random(seed)
    volt, ampere, watt, hours = 230.0, 10.0, 2000.0, 5000.0
    found = []
    for _ in range(4096 + meters):
        volt, ampere = volt + dice.gauss(0, 0.3), abs(ampere + dice.gauss(0, 0.2))
        watt, hours = abs(watt + dice.gauss(0, 20)), hours + watt / 3.6e6
        row = (round(volt, 1), round(ampere, 2), round(watt), round(hours, 2))
        found.append([Sample(name, value) for name, value in zip(NAMES, row, strict=True)])
    return found


async def fill(folder: str, batches: int, meters: int, *, clean: bool) -> None:
    hands = Hands(1000.0)
    settings = StoreSettings(path=folder, max_size=4 * 10**9, linger=3600.0, commit_every=3600.0)
    store = Store(settings, hands.clock(time.time() - batches), tail_bytes=2**30)
    await store.open()
    samples = values(meters)
    for number in range(batches):
        hands.now += 1.0
        for meter in range(meters):
            taken = samples[(number + 97 * meter) % len(samples)]
            await store.append(Readings(f"meter-{meter + 1}", "a1b2c3d4", round(1000 * hands.now) + 40 * meter, taken))
        store.flush()
        if number % TOGETHER == TOGETHER - 1:
            await store.commit()
    await store.commit()
    if not clean:
        os._exit(0)
    await store.close()


if __name__ == "__main__":
    meters = int(sys.argv[3]) // len(NAMES)
    asyncio.run(fill(sys.argv[1], int(sys.argv[2]) // int(sys.argv[3]), meters, clean=sys.argv[4] == "clean"))
