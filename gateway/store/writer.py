"""Brings what the book holds to disk, and back: transactions, failures, salvage."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import inf
from typing import Any, TypeVar

import msgpack

from gateway.clock import SYNCED, Clock
from gateway.errors import GatewayError, StoreDamaged
from gateway.model import Batch
from gateway.store import notices
from gateway.store.births import Births
from gateway.store.book import Book
from gateway.store.disk import CHUNK_ROWS, Disk
from gateway.store.job import Done, Job, Opened
from gateway.store.losses import Losses
from gateway.store.opening import DiskFailed
from gateway.store.places import Queue
from gateway.store.rows import corrected

FREE_AFTER = 15.0
"""Seconds that deletes wait for another commit to go along with; a crash meanwhile only means a duplicate."""
FREE_MANY = 64
RETRY = 5.0
"""Seconds between attempts to write to a disk that failed."""
_BOOTS = 16  # earlier boots whose anchor is remembered
_ANCHOR_MS = 1000  # an anchor that has moved less is the same one

T = TypeVar("T")


class Writer:
    """The one place that talks to the database's thread. `tell` takes the body of an event; `changed` wakes all who
    wait: for batches, for room in the tail, for the next deadline.
    """

    def __init__(
        self,
        disk: Disk,
        book: Book,
        clock: Clock,
        tell: Callable[[dict[str, Any]], None],
        changed: Callable[[], None],
    ) -> None:
        self._disk, self._book, self._clock, self._tell, self._changed = disk, book, clock, tell, changed
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._busy = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._deletes_since: float | None = None
        self._trouble_since, self._salvaged, self._opened = 0.0, 0, False
        self._anchors: dict[str, int] = {}
        self.births = Births()
        self.state: dict[str, bytes] = {}
        self.trouble = ""
        self.retry_at = inf
        self.salvaging = ""
        self.commits = self.bytes_written = self.disk_bytes = self.used_bytes = 0

    # ---- opening and closing

    async def open(self) -> Opened:
        """Open the database for the first time. DiskFailed when that cannot be."""
        return await self._call(self._disk.open, self._book.reopening(), "")

    async def adopt(self, opened: Opened) -> bool:
        """Commit the current run's epoch, take over what was found; false when the disk fails."""
        book, found = self._book, opened.found
        try:
            mine = found.runs.get(book.runs.number, book.runs.current)
            await self._call(self._disk.begin, replace(book.runs.current, high=mine.high))
        except GatewayError as error:
            await self._call(self._disk.shut)
            if not isinstance(error, DiskFailed | StoreDamaged):
                raise
            if isinstance(error, StoreDamaged) and opened.aside is None:
                return await self._reopen(str(error))
            self.fail(str(error))
            return False
        book.absorb(found)
        book.oldest, self.disk_bytes, self.used_bytes = opened.figures
        if not self._opened:  # later on, the book knows better
            book.losses, self._opened = Losses(opened.lost), True
        self._anchors = opened.anchors | self._anchors
        self.births.found(opened.births)
        book.outlet.readable = True
        if opened.aside is not None:
            self._tell(notices.replaced(opened.aside, opened.why))
        self.salvaging = opened.salvaging
        if not self.salvaging:
            book.reopened()
        self._changed()
        return True

    async def _reopen(self, why: str) -> bool:
        """Open the database again after it failed, or a fresh one when it is damaged."""
        try:
            opened = await self._call(self._disk.open, self._book.reopening(), why)
        except DiskFailed as error:
            self.fail(str(error))
            return False
        return await self.adopt(opened)

    async def finish(self) -> None:
        """Commit everything that is closed and mark the epoch clean."""
        await self._shielded(self._commit("clean"))
        if self.trouble:  # a sync may fail once
            await self._shielded(self._commit("clean"))
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def end(self) -> None:
        """Close the file and end the thread."""
        await self._call(self._disk.shut)
        self._thread.shutdown()

    # ---- writing

    async def commit(self) -> None:
        """Write everything closed and unsettled, and the deletes that are due, in one transaction."""
        await self._shielded(self._commit())

    async def commit_small(self) -> None:
        """Write what belongs to no batch: batches wait for their time, most are acknowledged before it comes."""
        await self._shielded(self._commit(rows=False))

    async def _commit(self, ended: str = "", *, rows: bool = True) -> None:
        async with self._busy:
            now = self._clock.monotonic()
            while self._disk.is_open or await self._reopen(""):
                job = self._job(now, ended, rows=rows)
                if not job:
                    break
                try:
                    done = await self._call(self._disk.commit, job)
                except DiskFailed as error:
                    self._not_committed(job)
                    self.fail(str(error))
                    break
                except StoreDamaged as error:
                    self._not_committed(job)
                    await self._reopen(str(error))
                    continue
                self._committed(job, done)
                if not rows or not self._book.waits_since(inf if ended else now):
                    break

    def _job(self, now: float, ended: str, *, rows: bool) -> Job:
        job = self._book.job(self._disk.job_bytes if rows else 0, free_now=bool(ended) or self.deletes_at() <= now)
        self.note_anchor()
        self.births.into(job)
        job.state, self.state = self.state, {}
        job.ended = ended if self._book.is_all(job) else ""
        job.free_now = bool(job)  # a commit for the sake of anything takes the deletes along
        return job

    def _not_committed(self, job: Job) -> None:
        self._book.failed(job)
        self.births.failed(job)
        self.state = job.state | self.state

    def _committed(self, job: Job, done: Done) -> None:
        self._book.committed(job, done)
        if done.freed:
            self._deletes_since = None
        self.deletes_wait()
        self.commits += 1
        self.bytes_written += done.written
        _, self.disk_bytes, self.used_bytes = done.figures
        if self.trouble:
            self.trouble, self.retry_at = "", inf
            self._tell(notices.disk_works(self._clock.monotonic() - self._trouble_since))
        self._changed()

    def fail(self, reason: str) -> None:
        """Note that the disk is in trouble: live data goes on from memory until it works again."""
        now = self._clock.monotonic()
        self.retry_at = now + RETRY
        self._book.outlet.readable = self._disk.is_open
        if not self.trouble:
            self.trouble, self._trouble_since = reason, now
            self._tell(notices.disk_failed(reason))
        self._changed()

    def deletes_wait(self) -> None:
        """Start the time that deletes may wait for company."""
        if self._deletes_since is None and self._book.waiting_deletes:
            self._deletes_since = self._clock.monotonic()
            self._changed()
        elif self._book.waiting_deletes >= FREE_MANY:
            self._changed()

    def deletes_at(self) -> float:
        """When the deletes are due, in monotonic seconds."""
        if self._deletes_since is None:
            return inf
        return -inf if self._book.waiting_deletes >= FREE_MANY else self._deletes_since + FREE_AFTER

    # ---- reading

    def fetch(self, queue: Queue) -> None:
        """Let the queue's next rows be read; `changed` tells when they are there."""
        queue.fetching = True
        self._spawn(self._fetch(queue))

    async def _fetch(self, queue: Queue) -> None:
        async with self._busy:
            try:
                whole, bad = await self._call(self._disk.fetch, list(queue.disk)[:CHUNK_ROWS])
            except DiskFailed as error:
                self.fail(str(error))
            except StoreDamaged as error:
                await self._reopen(str(error))
            else:
                self._book.fetched(queue, whole, bad)
                self.deletes_wait()
                self._changed()
            finally:
                queue.fetching = False

    async def salvage(self) -> None:
        """Bring over some more rows of a damaged file."""
        await self._shielded(self._salvage())

    async def _salvage(self) -> None:
        async with self._busy:
            try:
                found = await self._call(self._disk.salvage)
            except (DiskFailed, StoreDamaged) as error:
                self.fail(str(error))
                return
            if found is not None:
                self._salvaged += found.pending.count
                self._book.absorb(found)
            else:
                self._book.reopened()
                self._tell(notices.salvaged(self.salvaging, self._salvaged))
                self.salvaging, self._salvaged = "", 0
            self._changed()

    async def stored_births(self) -> list[tuple[str, str, dict[str, Any]]]:
        """All remembered births: (device, cfg, body)."""
        stored: list[tuple[str, str, dict[str, Any]]] = []
        with contextlib.suppress(DiskFailed, StoreDamaged):  # the next commit opens the file again
            stored = await self._call(self._disk.births)
        return self.births.merged(stored)

    async def load(self, key: str) -> Any:
        """Return the value in `state`, None when there is none or the disk cannot be read."""
        if key in self.state:
            return msgpack.unpackb(self.state[key])
        with contextlib.suppress(DiskFailed, StoreDamaged):
            return await self._call(self._disk.load, key)
        return None

    # ---- clock

    def note_anchor(self) -> None:
        """Remember what this boot's monotonic time means, as soon as the clock can be trusted."""
        if self._clock.state == SYNCED:
            anchor, boot = self._clock.anchor(), self._clock.boot
            if abs(anchor - self._anchors.get(boot, 0)) >= _ANCHOR_MS:
                self._anchors.pop(boot, None)
                self._anchors = dict([*self._anchors.items(), (boot, anchor)][-_BOOTS:])
                self.state[".anchors"] = msgpack.packb(self._anchors)

    def anchors(self) -> dict[str, int]:
        return dict(self._anchors)

    def corrected(self, batch: Batch) -> Batch:
        """Correct a time from before the clock was trusted, once the anchor of its boot is known."""
        return corrected(batch, self._anchors)

    # ---- the thread

    async def _call(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _shielded(self, work: Coroutine[Any, Any, None]) -> None:
        """Let the work end even if its caller is cancelled: what is on disk must be known."""
        await asyncio.shield(self._spawn(work))
