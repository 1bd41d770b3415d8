"""Random walks through the store's life against a ledger of what was fed, given, settled, dropped and crashed."""

from __future__ import annotations

import asyncio
import random

import msgpack
import pytest

from drivers.base import Sample
from gateway.model import Readings
from gateway.store.opening import DiskFailed


class Walk:
    """One store driven at random. `closed` are telemetry keys that must be accounted for in the end."""

    def __init__(self, desk, seed):
        self.desk, self.random = desk, random.Random(seed)
        self.settings = {
            "durability": self.random.choice(["bounded", "strict"]),
            "keep_acked": self.random.choice([0, 0, 5000, 200_000]),
            "max_size": self.random.choice([10_000_000, 450_000]),
        }
        self.closed, self.settled, self.announced = set(), set(), set()
        self.doubtful, self.done = set(), set()
        self.flying, self.offered, self.parked, self.live = {}, set(), set(), 0
        self.store = None

    async def start(self):
        self.store = await self.desk.open(**self.settings)
        self.flying, self.offered, self.parked, self.live = {}, set(), set(), 0

    def note_closed(self):
        last = self.store._book.seqs["t"]
        self.closed |= {(self.store.epoch, "t", seq) for seq in range(1, last + 1)}

    async def feed(self):
        for _ in range(self.random.randrange(1, 4)):
            samples = [Sample(f"p{i}", self.random.random()) for i in range(self.random.choice([1, 20, 400]))]
            await self.store.append(Readings("m", "c", int(self.desk.hands.now * 1000), samples))
            if self.random.random() < 0.7:
                self.store.flush()

    async def message(self):
        await self.store.append_message(self.random.choice("ec"), {"n": self.random.randrange(9)})

    async def take(self):
        for _ in range(self.random.randrange(1, 12)):
            batch = self.store.take(self.random.random() < 0.7)
            if batch is None:
                await asyncio.gather(*self.store._writer._tasks)
                continue
            assert batch.key not in self.flying, "given twice"
            assert batch.key not in self.parked, "given although it is parked"
            self.offered.add(batch.key)
            assert self.settings["keep_acked"] or batch.key not in self.settled, "given after it was settled"
            self.desk.given.setdefault(batch.key, batch.data)
            assert self.desk.given[batch.key] == batch.data
            if batch.stream == "t" and not batch.historical:
                assert batch.seq > self.live, "live data steps back"
                self.live = batch.seq
            self.flying[batch.key] = batch
            if batch.stream == "e":
                self.note_dropped(batch)

    def note_dropped(self, batch):
        for entry in msgpack.unpackb(batch.data).get("data", {}).get("dropped", []):
            for first, last in entry["ranges"]:
                self.announced |= {(entry["epoch"], entry["stream"], seq) for seq in range(first, last + 1)}

    async def settle(self):
        for key in self.random.sample(sorted(self.flying), min(len(self.flying), self.random.randrange(8))):
            epoch, stream, seq = key
            del self.flying[key]
            self.store.settle(epoch, stream, ((seq, seq),))
            self.settled.add(key)

    async def settle_a_range(self):
        self.note_closed()
        if self.closed:
            epoch, stream, seq = self.random.choice(sorted(self.closed))
            last = seq + self.random.randrange(5)
            self.store.settle(epoch, stream, ((seq, last),))
            for key in [(epoch, stream, n) for n in range(seq, last + 1)]:
                if key in self.offered:
                    self.settled.add(key)
                    self.parked.discard(key)
                    self.flying.pop(key, None)

    async def park(self):
        for key in self.random.sample(sorted(self.flying), min(len(self.flying), 2)):
            self.store.park(key)
            self.parked.add(key)
            del self.flying[key]

    async def unpark(self):
        stream = self.random.choice("etc")
        self.store.unpark(stream)
        self.parked = {key for key in self.parked if key[1] != stream}

    async def release(self):
        if self.random.random() < 0.5:
            self.store.release()
            self.flying.clear()
        else:
            keys = self.random.sample(sorted(self.flying), min(len(self.flying), 3))
            self.store.release(keys)
            for key in keys:
                del self.flying[key]

    async def resend(self):
        if self.closed:
            epoch, stream, seq = self.random.choice(sorted(self.closed))
            await self.store.resend(epoch, stream, ((seq, seq + 3),))
            for n in range(seq, seq + 4):
                self.flying.pop((epoch, stream, n), None)
                self.parked.discard((epoch, stream, n))

    async def commit(self):
        await self.store.commit()

    async def commit_beside(self):
        """Other things happen while the disk is busy."""
        writing = asyncio.create_task(self.store.commit())
        await asyncio.sleep(0)
        for _ in range(3):
            await self.random.choice([self.take, self.settle, self.release, self.settle_a_range, self.feed])()
            await asyncio.sleep(0)
        await writing

    async def trouble(self):
        """The next commit fails, before or after it is on disk; nobody can tell which."""
        disk, late = self.store._writer._disk, self.random.random() < 0.5
        if "commit" in vars(disk):
            return

        def fail(job):
            del disk.commit
            if late:
                disk.commit(job)
            disk.shut()
            raise DiskFailed("disk I/O error")

        disk.commit = fail

    async def time(self):
        self.desk.hands.now += self.random.choice([0.3, 1.5, 70])
        await self.store.step()

    async def restart(self):
        vars(self.store._writer._disk).pop("commit", None)
        self.note_closed()
        await self.desk.close(self.store)
        self.note_closed()
        await self.start()

    async def crash(self):
        """What was not committed may be gone; what was settled may come once more: its key tells."""
        self.note_closed()
        self.doubtful |= {closed.batch.key for closed in self.store._book.tail.values() if not closed.stored}
        await self.desk.crash(self.store)
        self.done |= self.settled
        self.settled = set()
        await self.start()

    async def run(self, steps):
        await self.start()
        often = [self.feed, self.feed, self.take, self.take, self.settle, self.settle, self.commit, self.time]
        seldom = [self.message, self.settle_a_range, self.release, self.resend, self.park, self.unpark]
        seldom += [self.commit_beside, self.trouble]
        rare = [self.restart, self.crash]
        for _ in range(steps):
            draw = self.random.random()
            await self.random.choice(rare if draw < 0.02 else seldom if draw < 0.25 else often)()
            self.note_closed()
            self.desk.check(self.store)
        await self.finish()

    async def finish(self):
        await self.restart()
        given = set()
        for _ in range(4):  # strict gives the last announcement only when it is committed
            await self.store.commit()
            for batch in await self.desk.drain(self.store):
                given.add(batch.key)
                if batch.stream == "e":
                    self.note_dropped(batch)
            self.desk.hands.now += 100
        stats = self.store.stats()
        assert (stats["pending"], stats["pending_batches"]) == (0, 0)
        assert self.closed - given - self.done - self.settled - self.announced - self.doubtful == set()
        assert not given & self.announced, "announced as dropped and given"


@pytest.mark.parametrize("seed", range(40))
async def test_every_batch_is_accounted_for(desk, seed):
    await Walk(desk, seed).run(150)
