"""The durable queue: a small tail in memory, SQLite behind it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Collection, Iterable, Mapping
from math import floor, inf
from pathlib import Path
from typing import Any

import msgpack

from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.model import Batch, Ranges, Readings, StoreSettings
from gateway.spans import Spans
from gateway.store import notices
from gateway.store.book import Book
from gateway.store.disk import Disk
from gateway.store.lock import Lock
from gateway.store.opening import DiskFailed
from gateway.store.rows import Run, lane, parts
from gateway.store.tail import Open, pieces
from gateway.store.writer import Writer
from gateway.uplink.payload.native import encode_blocks

ANNOUNCE_EVERY = 60.0
"""Seconds between two reports of losses of one kind."""
_ANNOUNCED = 200  # ranges per report
_MESSAGE_BYTES = 256 * 1024


class Store:
    """Keeps every reading until it is settled.

    Each bus appends; the publisher takes, settles and releases; `run` closes and commits when it is time.
    """

    def __init__(self, settings: StoreSettings, clock: Clock, *, tail_bytes: int = 4 * 2**20) -> None:
        self._settings, self._clock, self._limit = settings, clock, tail_bytes
        self._folder = Path(settings.path)
        self._keep = settings.keep_acked > 0
        self._book = Book(strict=settings.durability == "strict", keep=self._keep)
        disk = Disk(self._folder, settings.max_size, settings.keep_acked)
        self._writer = Writer(disk, self._book, clock, self._tell, self._changed)
        self._wake, self._more, self._room = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._open: Open | None = None
        self._first = 0.0
        self._announce_at: dict[str, float] = {}
        self._lock: Lock | None = None
        self.epoch = ""

    # ---- life

    async def open(self) -> None:
        """Take the lock, open the database, commit this run's epoch. GatewayError says why that cannot be."""
        lock = Lock(self._folder)
        try:
            await self._start(lock)
        except GatewayError:
            lock.release()
            await self._writer.end()
            raise
        self._lock = lock

    async def _start(self, lock: Lock) -> None:
        opened, failure = None, ""
        try:
            opened = await self._writer.open()
        except DiskFailed as error:
            failure = str(error)
            if not lock.starts:
                raise GatewayError(
                    f"The store in {self._folder} cannot be opened: {failure}. Probably the disk is full, mounted "
                    f"read-only or failing, or the files belong to another user. Free space, or correct the owner."
                ) from error
        number = max([lock.starts, *(opened.found.runs if opened else ())]) + 1
        run = Run(number, f"{number}-{secrets.token_hex(8)}")
        self._book.runs.start(run)
        self.epoch = run.epoch
        lock.started(number)
        if opened is None:
            self._writer.fail(failure)
        else:
            await self._writer.adopt(opened)

    async def run(self) -> None:
        """Close and commit batches when their time has come. Runs until cancelled."""
        while True:
            self._wake.clear()
            wait = await self.step()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake.wait()

    async def step(self) -> float | None:
        """Do what is due now; returns the seconds until something is due, None when nothing waits."""
        now = self._clock.monotonic()
        if self._open is not None and (now >= self._linger_at() or self._full()):
            self.flush()
        if self._commit_at() <= now:
            await self._writer.commit()
        salvaging = self._writer.salvaging and not self._writer.trouble
        if salvaging:
            await self._writer.salvage()
        due = now if salvaging else min(self._linger_at(), self._commit_at())
        return None if due == inf else max(0.0, due - self._clock.monotonic())

    def _linger_at(self) -> float:
        """When the open batch closes: at a tick of `linger`, half a tick beside the grid that polls sit on.

        A batch that closed one linger after its first reading would make every burst of polls wait all of it.
        """
        linger = self._settings.linger
        if self._open is None or not linger:
            return inf
        passed = floor((self._open.since - self._first) / linger + 0.5)
        return self._first + (passed + 0.5) * linger

    def _commit_at(self) -> float:
        if self._writer.trouble:
            return self._writer.retry_at
        closed = self._book.closed_since()
        if closed < inf and self._full():
            return -inf
        return min(closed + self._settings.commit_every, self._writer.deletes_at())

    async def close(self) -> None:
        """Commit everything unsettled and mark the epoch clean. GatewayError when the disk does not take it."""
        self.flush()
        try:
            await self._writer.finish()
        finally:
            await self._writer.end()
            if self._lock is not None:
                self._lock.release()
        if self._writer.trouble:
            raise GatewayError(
                f"{self._book.held_readings} readings could not be written to the store when the agent stopped: "
                f"{self._writer.trouble}. They are lost unless the IOC has received them. Free space on the disk, or "
                f"replace it."
            )

    # ---- in

    async def append(self, readings: Readings) -> None:
        """Take readings of one device; returns when they are in the tail, and waits only while that is full."""
        if readings.samples:
            await self._wait_for_room()
            for piece, size in pieces(readings):
                self._accept(piece, size)

    async def append_message(self, stream: str, body: Mapping[str, Any]) -> None:
        """Take an event ("e") or a command's result ("c"): a batch of its own, before all telemetry."""
        await self._wait_for_room()
        self._message(stream, body)

    async def _wait_for_room(self) -> None:
        while self._full() and not self._writer.trouble:
            self._room.clear()
            self._wake.set()
            await self._room.wait()

    def _full(self) -> bool:
        return self._book.tail_bytes + (self._open.size if self._open is not None else 0) >= self._limit

    def _accept(self, readings: Readings, size: int) -> None:
        clock = self._clock
        if self._open is not None and self._open.clk != clock.state:
            self.flush()
        if self._open is None or not self._open.add(readings, size):
            self.flush()
            m0 = clock.mono_ms()
            self._open = Open(m0, m0 + clock.anchor(), clock.state, clock.monotonic())
            self._open.add(readings, size)
            self._wake.set()
        self._book.appended.readings += len(readings.samples)
        if not self._book.seqs["t"]:
            self._first = self._open.since
            self.flush()
        elif self._settings.linger <= 0 or self._open.full:
            self.flush()

    def flush(self) -> None:
        """Close the open batch now."""
        if self._open is not None:
            batch, self._open = self._open, None
            zipped, data = encode_blocks(batch.readings, batch.m0)
            key = self._next("t")
            self._put(Batch(*key, self._clock.boot, batch.t0, batch.m0, batch.clk, batch.count, zipped, data))

    def _message(self, stream: str, body: Mapping[str, Any]) -> None:
        data = msgpack.packb(dict(body), unicode_errors="replace")
        if len(data) > _MESSAGE_BYTES or stream not in ("e", "c"):
            raise ValueError(f"a message of {len(data)} bytes for stream {stream!r}: at most {_MESSAGE_BYTES}, e or c")
        m0 = self._clock.mono_ms()
        t0 = m0 + self._clock.anchor()
        self._put(Batch(*self._next(stream), self._clock.boot, t0, m0, self._clock.state, 0, False, data))

    def _tell(self, body: dict[str, Any]) -> None:
        self._message("e", body)

    def _next(self, stream: str) -> tuple[str, str, int]:
        self._book.seqs[stream] += 1
        return self.epoch, stream, self._book.seqs[stream]

    def _put(self, batch: Batch) -> None:
        self._book.put(batch, self._clock.monotonic())
        self._changed()

    def _changed(self) -> None:
        """Wake all who wait; a tail that cannot be written makes room."""
        if self._writer.trouble:
            self._book.shrink(self._limit)
        self._more.set()
        self._room.set()
        self._wake.set()

    # ---- out

    def take(self, backlog: bool = True, without: Collection[str] = ()) -> Batch | None:
        """Give the next batch: events and commands, then live, then backlog. None: nothing now, see `more`.

        `without` names streams that must wait.
        """
        self._writer.note_anchor()
        self._announce()
        batch = self._book.take(backlog, without)
        if batch is None:
            self._more.clear()
        for queue in self._book.outlet.wants(backlog, without):
            self._writer.fetch(queue)
        return batch and self._writer.corrected(batch)

    async def more(self) -> None:
        """Wait until `take` may give something."""
        await self._more.wait()

    def settle(self, epoch: str, stream: str, ranges: Ranges) -> int:
        """Free those of these batches that this run has given; returns how many of them were known."""
        known = sum(self._book.settle(*span) for span in self._book.runs.spans(epoch, stream, ranges))
        if known:
            self._room.set()
            self._writer.deletes_wait()
        return known

    def release(self, keys: Iterable[tuple[str, str, int]] | None = None) -> None:
        """Give these batches, or all that are taken and not settled, again, as historical."""
        if keys is None:
            self._book.release(None)
        else:
            spans = self._book.runs.spans
            self._book.release([span[0] for e, s, seq in keys for span in spans(e, s, ((seq, seq),))])
        self._changed()

    def park(self, key: tuple[str, str, int]) -> None:
        """Keep this batch without giving it again, until `unpark` or `resend` asks for it, or the next run begins."""
        epoch, stream, seq = key
        for identity, _ in self._book.runs.spans(epoch, stream, ((seq, seq),)):
            self._book.park(identity)

    def unpark(self, stream: str) -> int:
        """Give the parked batches of a stream again, as historical; returns how many there are."""
        count = self._book.unpark(*lane(stream))
        self._changed()
        return count

    async def resend(self, epoch: str, stream: str, ranges: Ranges) -> tuple[int, Ranges]:
        """Give these batches again, kept and parked ones too, as historical.

        Returns how many there are, and those that are not: settled and freed, or never there. A number that this run
        has not reached is neither.
        """
        if self._keep:
            await self._writer.commit()  # what was settled a moment ago is not on disk yet
        if epoch == self.epoch:
            reached = self._book.seqs.get(stream, 0)
            ranges = tuple((first, min(last, reached)) for first, last in ranges if first <= reached)
        missing = Spans(ranges)
        found = 0
        for span in self._book.runs.spans(epoch, stream, ranges):
            there = self._book.resend(*span)
            found += there.count
            for first, last in [*there, *self._book.losses.among(*span)]:
                missing.remove(parts(first)[2], parts(last)[2])
        self._changed()
        return found, tuple(iter(missing))  # its own length is that of the numbers: 2^62 may be asked for

    def _announce(self) -> None:
        """Report the exact ranges of what was given up, when somebody listens, now and then."""
        for code in list(self._book.losses.spans):
            now = self._clock.monotonic()
            if now >= self._announce_at.get(code, -inf):
                self._announce_at[code] = now + ANNOUNCE_EVERY
                spans = self._book.losses.take(code, _ANNOUNCED)
                self._tell(notices.lost(code, self._book.runs.sequences(spans), spans.count))
                self._book.losses.announced(self._book.newest("e"), code, spans)

    # ---- to disk

    async def commit(self) -> None:
        """Write everything closed and unsettled, and the deletes that are due, in one transaction."""
        await self._writer.commit()

    # ---- births, state, figures

    async def births(self) -> list[tuple[str, str, dict[str, Any]]]:
        """All remembered births: (device, cfg, body)."""
        return await self._writer.stored_births()

    async def remember_birth(self, device: str, cfg: str, body: Mapping[str, Any]) -> None:
        """Make this the device's current birth; returns when it may be published."""
        newest = self._book.newest("t") + (self._open is not None)
        if self._writer.births.remember(device, cfg, body, self._book.runs.number, newest):
            await self._writer.commit_small()

    def stale_births(self) -> list[tuple[str, str]]:
        """Births (device, cfg) that nobody needs any more. Ask after all current ones were remembered."""
        oldest = self._book.oldest_pending("t")
        if oldest is None and self._open is not None:
            oldest = self._book.newest("t") + 1
        return self._writer.births.stale(oldest)

    async def forget_birth(self, device: str, cfg: str) -> None:
        """Drop a birth that was withdrawn. Written with the next commit: after a crash it is stale once more."""
        self._writer.births.forget((device, cfg))

    def note_state(self, key: str, value: Any) -> None:
        """Remember a small value (MessagePack) under a key with the next commit, whenever that is."""
        self._writer.state[key] = msgpack.packb(value, unicode_errors="replace")

    async def save_state(self, key: str, value: Any) -> None:
        """Remember a small value (MessagePack) under a key; returns when it is committed, or the disk is in trouble."""
        self.note_state(key, value)
        await self._writer.commit_small()

    async def load_state(self, key: str) -> Any:
        """Return what was saved under the key, None when nothing was or the disk cannot be read."""
        return await self._writer.load(key)

    def anchors(self) -> dict[str, int]:
        """Boot id -> wall time minus monotonic time in ms, of this boot and earlier ones, where it is known."""
        return self._writer.anchors()

    def knows(self, epoch: str) -> bool:
        """Whether the epoch is this run's, or one of those before it that are not forgotten."""
        return self._book.runs.knows(epoch)

    def earlier_epochs(self) -> list[dict[str, Any]]:
        """Body of up/epochs: earlier runs that are not settled, or did not end cleanly."""
        return self._book.earlier_epochs()

    def stats(self) -> dict[str, Any]:
        """Counters and sizes. recovered + appended = acked + dropped + pending, in readings and in batches."""
        book, writer, waiting = self._book, self._writer, self._open
        pending = book.pending()
        open_readings = waiting.count if waiting is not None else 0
        times = [closed.batch.t0 for closed in book.tail.values() if not closed.settled]
        times += [waiting.t0] if waiting is not None else []
        times += [book.oldest] if book.oldest is not None and book.stored else []
        counts = {"recovered": book.recovered, "appended": book.appended, "acked": book.acked, "dropped": book.dropped}
        return {
            "epoch": self.epoch,
            **{name: count.readings for name, count in counts.items()},
            **{f"{name}_batches": count.batches for name, count in counts.items()},
            "pending": pending.readings + open_readings,
            "pending_batches": pending.batches,
            "stored": book.committed_readings,
            "parked_batches": book.outlet.parked.count,
            "uncommitted": book.held_readings + open_readings,
            "in_flight": sum(closed.taken for closed in book.tail.values()) + len(book.flight),
            "tail_bytes": book.tail_bytes + (waiting.size if waiting is not None else 0),
            "disk_bytes": writer.disk_bytes,
            "used_bytes": writer.used_bytes,
            "cap_bytes": self._settings.max_size,
            "oldest": min(times, default=None),
            "commits": writer.commits,
            "bytes_written": writer.bytes_written,
            "trouble": writer.trouble,
        }
