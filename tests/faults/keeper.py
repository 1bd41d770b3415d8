"""A store in a process of its own, to be killed, denied its disk or cut off from power. It says what it has promised.

    python keeper.py FOLDER '{"rounds": 12, "durability": "strict"}'

One JSON object per line on stdout, written after the promise is given, and before a batch is settled. With `ask` every
round waits for a line on stdin; with `hoard` it takes memory without end after so many ms.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import threading
import time
from typing import Any

import msgpack

from drivers.base import Sample
from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.model import Batch, Readings, StoreSettings
from gateway.store import Store, opening

SIZES = (3, 40, 150, 400)


def truth(epoch: str, seq: int) -> list[int]:
    """The values of a batch: nobody else has them, so each can be told from all others."""
    chance = random.Random(f"{epoch} {seq}")
    return [chance.randrange(65536) for _ in range(chance.choice(SIZES))]


def say(**what: Any) -> None:
    os.write(1, json.dumps(what | {"at": time.monotonic_ns()}).encode() + b"\n")


class Keeper:
    """Feeds a store, takes and settles a part of what it gives, and commits every round."""

    def __init__(
        self, folder: str, rounds: int = 12, close: bool = True, ask: bool = False, hoard: int = 0, **store: Any
    ) -> None:
        self.rounds, self.closes, self.asks, self.hoards = rounds, close, ask, hoard
        self.now = 1000.0
        clock = Clock("system", boot="b" * 12, monotonic=lambda: self.now, wall=lambda: self.now + 1.7e9)
        self.store = Store(StoreSettings(path=folder, **{"max_size": 2_000_000, **store}), clock)
        self.later: list[Batch] = []

    async def run(self) -> None:
        await self.store.open()
        say(epoch=self.store.epoch)
        if self.hoards:
            threading.Thread(target=self.hoard, daemon=True).start()
        for turn in range(self.rounds):
            if self.asks:
                say(round=turn)
                sys.stdin.readline()
            await self.feed(turn)
            self.take(most=50)
            await self.commit(turn)
            self.take(most=50)
            self.settle_late()
            if turn % 3 == 2:
                await self.drain()
            if turn % 5 == 4:
                self.store.release()
        stats = self.store.stats()
        say(stats={name: stats[name] for name in ("appended", "dropped", "trouble", "disk_bytes")})
        if self.closes:
            await self.store.close()
            say(closed=True, committed=self.store._book.seqs)

    def hoard(self) -> None:
        """Take memory until there is none left."""
        time.sleep(self.hoards / 1000)
        held: list[bytearray] = []
        while True:
            held.append(bytearray(2**18))

    async def feed(self, turn: int) -> None:
        store = self.store
        for _ in range(2):
            values = truth(store.epoch, store._book.seqs["t"] + 1)
            samples = [Sample(f"p{i}", value) for i, value in enumerate(values)]
            await store.append(Readings("m", "c", int(self.now * 1000), samples))
            store.flush()
        if turn % 3 == 0:
            await store.append_message("e", {"turn": turn})
        if turn % 4 == 0:
            await store.append_message("c", {"turn": turn})
        self.now += 10

    async def commit(self, turn: int) -> None:
        """Let the store do what is due; say how far it is on disk, where it is all on disk."""
        store = self.store
        if turn % 6 == 1:
            cfg = f"c{turn}"
            await store.remember_birth("m", cfg, {"turn": turn})
            if not store.stats()["trouble"]:
                say(birth=["m", cfg])
            await store.save_state("turn", [store.epoch, turn])
            if not store.stats()["trouble"]:
                say(saved=[store.epoch, turn])
        closed = dict(store._book.seqs)
        await store.step()
        if not store.stats()["trouble"]:
            say(committed=closed)

    def take(self, most: int, backlog: bool = False) -> int:
        """Take so many batches. Of three one is settled at once, as events are; one some rounds later; one never."""
        for taken in range(most):
            batch = self.store.take(backlog)
            if batch is None:
                return taken
            say(given=batch.key)
            if batch.stream != "t" or batch.seq % 3 == 0:
                self.settle(batch)
            elif batch.seq % 3 == 1:
                self.later.append(batch)
        return most

    def settle_late(self) -> None:
        """Settle what the broker has had for some rounds: by now it is on disk, and has to be freed there."""
        while len(self.later) > 4:
            self.settle(self.later.pop(0))

    def settle(self, batch: Batch) -> None:
        body = msgpack.unpackb(batch.data) if batch.stream == "e" else {}
        told = {name: body[name] for name in ("code", "state") if name in body}
        say(settled=batch.key, dropped=body.get("data", {}).get("dropped", []), **told)
        self.store.settle(batch.epoch, batch.stream, ((batch.seq, batch.seq),))

    async def drain(self) -> None:
        """Take a little of the backlog, which has to be read from the disk first."""
        for _ in range(3):
            if self.take(most=3, backlog=True):
                return
            await asyncio.gather(*self.store._writer._tasks)


if __name__ == "__main__":
    opening.CHECKPOINT = 8  # so that few commits reach every kind of write
    try:
        asyncio.run(Keeper(sys.argv[1], **json.loads(sys.argv[2])).run())
    except GatewayError as error:
        sys.exit(str(error))
