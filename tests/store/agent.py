"""An agent's store in a process of its own, to be killed or denied its disk. Prints one JSON object per line."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import msgpack

from drivers.base import Sample
from gateway.clock import Clock
from gateway.model import Readings, StoreSettings
from gateway.store import Store, opening

opening.CHECKPOINT = 8  # so that few commits reach every kind of write


def say(**what):
    os.write(1, json.dumps(what).encode() + b"\n")


async def main(folder, rounds):
    now = 1000.0
    clock = Clock("system", boot="b" * 12, monotonic=lambda: now, wall=lambda: now)
    store = Store(StoreSettings(path=folder, max_size=2_000_000), clock)
    await store.open()
    say(epoch=store.epoch)
    value = 0
    for turn in range(rounds):
        for _ in range(2):
            samples = [Sample(f"p{i}", (value + i) * 7919 % 65536) for i in range(150)]
            value += 150
            await store.append(Readings("m", "c", int(now * 1000), samples))
            store.flush()
        now += 10
        while (batch := store.take(backlog=False)) is not None:
            body = msgpack.unpackb(batch.data) if batch.stream == "e" else {}
            if body or batch.seq % 3 == 0:
                say(settled=[batch.stream, batch.seq], code=body.get("code"), state=body.get("state"))
                store.settle(batch.epoch, batch.stream, ((batch.seq, batch.seq),))
        before = store.stats()["commits"]
        await store.step()
        if store.stats()["commits"] > before and not store.stats()["uncommitted"]:
            say(committed=2 * turn + 2)
    say(stats=store.stats())
    await store.close()
    say(closed=True)


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
