"""The database. Everything here runs on the store's one thread, and blocks."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import msgpack

from gateway.errors import GatewayError, StoreDamaged
from gateway.model import Batch
from gateway.spans import Span, Spans
from gateway.store import capacity, frames, opening, salvage
from gateway.store.capacity import ROW_HEAD, row_pages
from gateway.store.job import Done, Found, Job, Known, Opened
from gateway.store.opening import PAGE, DiskFailed, judge
from gateway.store.rows import (
    STREAMS,
    Row,
    Run,
    firsts,
    is_whole,
    lane,
    last_own,
    origin_of,
    parts,
    row_id,
    to_batch,
    to_row,
)
from gateway.store.sound import is_sound
from gateway.store.tables import figures, islands, oldest, pages_used, readings, small

NAME = "gateway.db"
CHUNK_ROWS = 64
CHUNK_BYTES = 512 * 1024
_SALVAGE_ROWS = 256
_EXTRA = (0, 16, 64, 256)  # pages to free beside the estimate, should it have been too low
_MARGIN = 8  # pages for what is not a batch
_STEP = 8  # rows looked at together when the cap is reached
_COMMIT_BYTES = 6144  # what a commit costs beside its data, which goes to the log and then to the file (measured)
_COLUMNS = "id,kept,n,t0,m0,clk,zipped,origin,crc,data"
_INSERT = f"INSERT INTO batch({_COLUMNS}) VALUES(?,?,?,?,?,?,?,?,?,?)"


class Disk:
    """SQLite under the store: opens, commits, fetches. Raises DiskFailed or StoreDamaged."""

    def __init__(self, folder: Path, cap: int, keep: int) -> None:
        self.path = folder / NAME
        self._pages = capacity.pages(cap)
        self.job_bytes = capacity.job_bytes(cap)  # of data that one job may hold: it bounds the write-ahead log
        self._keep = keep
        self._kept_bytes = 0
        self._db: sqlite3.Connection | None = None
        self._run = Run(0, "")
        self._salvaging: Iterator[Row | None] = iter(())
        self._known = Known()

    @property
    def is_open(self) -> bool:
        return self._db is not None

    # ---- opening

    def open(self, known: Known, why: str = "") -> Opened:
        """Open the file; one that is damaged (`why`), or of a later version, is moved aside and a fresh one made."""
        self.shut()
        self._known = known
        self._kept_bytes = 0
        kind = "corrupt" if why else "newer" if opening.is_newer(self.path) else ""
        try:
            if not kind:
                return self._load()
        except StoreDamaged as error:
            kind, why = "corrupt", str(error)
        self.shut()
        try:
            aside = opening.move_aside(self.path, kind)
        except OSError as error:
            raise DiskFailed(error.strerror or str(error)) from error
        opened = self._load()
        opened.aside, opened.why = aside, why
        if kind == "corrupt":
            opened = replace(self._salvage_tables(aside), aside=aside, why=why)
        return opened

    def begin(self, run: Run) -> None:
        """Commit a run's row: no two runs share an epoch. Earlier runs without a clean end are unclean from now on."""
        with self._transaction() as db:
            db.execute("INSERT OR IGNORE INTO run VALUES(?,?,'',0,0,0)", (run.number, run.epoch))
            newest = db.execute("SELECT n,epoch FROM run ORDER BY n DESC LIMIT 1").fetchone()
            if newest != (run.number, run.epoch):
                raise GatewayError(
                    f"The store's start counter {run.number} was used before: its lock file was deleted while the disk "
                    f"could not be read. Start the agent again."
                )
            db.execute("UPDATE run SET ended='unclean' WHERE ended='' AND n<?", (run.number,))
        self._run = run

    def _load(self) -> Opened:
        try:
            if frames.is_damaged(Path(f"{self.path}-wal"), PAGE):
                raise StoreDamaged("its write-ahead log is damaged")
            self._db = db = opening.connect(self.path, self._pages)
            db.execute(f"SELECT {_COLUMNS} FROM batch LIMIT 0")  # noqa: S608  (whether they are all there)
            opened = small(db)
            runs = opened.found.runs
            if last := last_own(runs):
                opening.check(db, self.path, clean=bool(runs[last].ended))
            self._scan(db, opened.found)
            if opened.salvaging:  # the last run ended before all was brought over
                self._salvaging = salvage.rows(self.path.with_name(opened.salvaging))
            else:
                self._forget_runs(db, opened)
            opened.figures = figures(db, self.path, firsts(opened.found.pending))
        except opening.FAILURES as error:
            self.shut()
            raise judge(error) from error
        except StoreDamaged:
            self.shut()
            raise
        return opened

    def _scan(self, db: sqlite3.Connection, found: Found) -> None:
        """Look at every row without its data: months of backlog are a few ranges."""
        runs = found.runs
        for first, last, kept, total, size in islands(db):
            (found.kept if kept else found.pending).add(first, last)
            if kept:
                self._kept_bytes += size
            else:
                found.readings += total
            number = parts(first)[1]
            if number not in runs:
                row = db.execute("SELECT origin FROM batch WHERE id=?", (first,)).fetchone()
                if row is None:
                    raise StoreDamaged(f"row {first} is there and cannot be found")
                runs[number] = Run(number, origin_of(first, str(row[0]))[0], "unclean")
                db.execute("INSERT INTO run VALUES(?,?,?,0,0,0)", (number, runs[number].epoch, "unclean"))
            runs[number] = runs[number].reached(last)
        known = self._known
        for span in known.uncounted:
            found.counted += readings(db, span)
        for settled in [*known.kept, *known.ignore]:
            for span in found.pending.remove(*settled):
                found.readings -= readings(db, span)
                found.kept.add(*span)
        for ignored in known.ignore:
            found.kept.remove(*ignored)

    def _forget_runs(self, db: sqlite3.Connection, opened: Opened) -> None:
        """Forget the runs that nothing refers to any more; the last one stays, to say how it ended."""
        runs = opened.found.runs
        sets = [opened.found.pending, opened.found.kept, *opened.lost.values()]
        needed = {parts(end)[1] for spans in sets for span in spans for end in span} | {last_own(runs)}
        for number in set(runs) - needed:
            del runs[number]
            db.execute("DELETE FROM run WHERE n=?", (number,))
        for run in runs.values():
            db.execute(
                "UPDATE run SET e=?,c=?,t=? WHERE n=? AND (e<>? OR c<>? OR t<>?)", (*run.high, run.number, *run.high)
            )

    # ---- salvage

    def _salvage_tables(self, aside: Path) -> Opened:
        """Take over the small tables, as far as they can be read, and begin with the large one."""
        with self._transaction() as db:
            for table, row in salvage.small(aside):
                db.execute(f"INSERT OR IGNORE INTO {table} VALUES({','.join('?' * len(row))})", row)
            db.execute(opening.NAME_EPOCHS)
            db.execute("INSERT OR REPLACE INTO state VALUES('.salvage',?)", (aside.name,))
            opened = small(db)
        self._salvaging = salvage.rows(aside)
        return opened

    def salvage(self) -> Found | None:
        """Bring some rows of the damaged file into the fresh one; None when that is done."""
        rows = list(islice(self._salvaging, _SALVAGE_ROWS))
        found = Found()
        try:
            with self._transaction() as db:
                for row in filter(None, rows):
                    self._salvage_row(db, row, found)
                if not rows:
                    db.execute("DELETE FROM state WHERE key='.salvage'")
        except DiskFailed:
            self._salvaging = chain(rows, self._salvaging)
            raise
        return found if rows else None

    def _salvage_row(self, db: sqlite3.Connection, row: Row, found: Found) -> None:
        number = parts(row.id)[1]
        here = db.execute("SELECT 1 FROM batch WHERE id=?", (row.id,)).fetchone()  # by an attempt that was cut short
        if not here and self._room() > row_pages(len(row.data)) + _MARGIN:
            found.runs[number] = found.runs.get(number, Run(number, to_batch(row).epoch, "unclean")).reached(row.id)
            if found.meet(row.id, row.kept, row.readings, self._known):
                db.execute(_INSERT, row)
                self._kept_bytes += len(row.data) if row.kept else 0

    # ---- the daily work

    def commit(self, job: Job) -> Done:
        """Do the job in one transaction. At the cap the oldest rows of the lowest priority go first."""
        need = sum(row_pages(len(batch.data)) for _, batch, _ in job.rows)
        before = self._run, self._kept_bytes
        for extra in _EXTRA:
            done = Done()
            try:
                with self._transaction() as db:
                    self._do(db, job, done, need + extra)
            except DiskFailed as error:
                self._run, self._kept_bytes = before
                if not opening.is_full(error) or self._room() > 4 * need + extra:  # the disk is full, not the store
                    raise
            else:
                self._measure(job, done)
                return done
        raise DiskFailed("the batches do not fit into the store: [store] max_size is too small")

    def _do(self, db: sqlite3.Connection, job: Job, done: Done, need: int) -> None:
        for span in job.uncounted:
            done.counted += readings(db, span)
        # A commit that seemed to fail may have been on disk all the same.
        db.executemany("DELETE FROM batch WHERE id=?", [(identity,) for identity, _, _ in job.rows])
        if job.free_now:
            self._free(db, job, done)
        kept = job.kept.copy()
        self._flag(db, job)
        self._make_room(db, job, kept, done, need)
        db.executemany(_INSERT, [to_row(*row) for row in job.rows])
        for identity, batch, keep in job.rows:
            if keep:
                kept.add(identity, identity)
                self._kept_bytes += len(batch.data)
        while self._kept_bytes > self._keep and kept:
            self._unkeep(db, kept, done)
        for identity, _, _ in job.rows:
            self._run = self._run.reached(identity)
        if done.dropped or job.lost_changed:
            lost = {name: spans.copy() for name, spans in job.lost.items()}
            for identity, _ in done.dropped:
                lost.setdefault("store-full", Spans()).add(identity, identity)
            packed = msgpack.packb({name: list(spans) for name, spans in lost.items()})
            db.execute("INSERT OR REPLACE INTO state VALUES('.lost',?)", (packed,))
        db.executemany("INSERT OR REPLACE INTO state VALUES(?,?)", list(job.state.items()))
        self._write_births(db, job)
        if job.ended:
            self._run = replace(self._run, ended=job.ended)
        if job.ended or self._loses_highest(job, done):
            run = self._run
            db.execute("UPDATE run SET ended=?,e=?,c=?,t=? WHERE n=?", (run.ended, *run.high, run.number))

    def _loses_highest(self, job: Job, done: Done) -> bool:
        """Whether the row with the run's highest number of a stream goes: then the number must be written down."""
        gone = Spans(job.free if done.freed else ())
        for identity, _ in done.dropped:
            gone.add(identity, identity)
        return any(
            row_id(stream, self._run.number, seq) in gone for stream, seq in zip(STREAMS, self._run.high, strict=True)
        )

    def _free(self, db: sqlite3.Connection, job: Job, done: Done) -> None:
        if not done.freed:
            db.executemany("DELETE FROM batch WHERE id BETWEEN ? AND ?", job.free)
            done.freed = True

    def _flag(self, db: sqlite3.Connection, job: Job) -> None:
        """Mark what is settled and kept."""
        for span in job.keep:
            total = db.execute("SELECT sum(length(data)) FROM batch WHERE id BETWEEN ? AND ?", span).fetchone()[0]
            self._kept_bytes += total or 0
            db.execute("UPDATE batch SET kept=1 WHERE id BETWEEN ? AND ?", span)

    def _unkeep(self, db: sqlite3.Connection, kept: Spans, done: Done) -> None:
        """Give up the oldest kept row, telemetry first."""
        first, last = next(filter(None, (kept.overlap(*lane(stream)) for stream in "tce")))[0]
        query = "SELECT id,length(data) FROM batch WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?"
        for identity, size in db.execute(query, (first, last, _STEP)).fetchall():
            db.execute("DELETE FROM batch WHERE id=?", (identity,))
            self._kept_bytes -= size or 0  # a damaged row may have lost its data
            last = identity
        kept.remove(first, last)
        done.unkept.add(first, last)

    def _make_room(self, db: sqlite3.Connection, job: Job, kept: Spans, done: Done, need: int) -> None:
        """Free pages until `need` fit under the cap: what is settled, what is kept, then t, c, and events last."""
        if need and self._room() < need + _MARGIN:
            self._free(db, job, done)
        while need and self._room() < need + _MARGIN:
            if kept:
                self._unkeep(db, kept, done)
                continue
            victim = oldest(db, "tc", job.spared) or oldest(db, "tc", frozenset()) or oldest(db, "e", frozenset())
            if victim is None:
                return
            db.execute("DELETE FROM batch WHERE id=?", victim[:1])
            done.dropped.append(victim)

    def _write_births(self, db: sqlite3.Connection, job: Job) -> None:
        db.executemany("DELETE FROM birth WHERE device=? AND cfg=?", job.forget)
        for (device, cfg), body in job.births.items():
            db.execute("INSERT OR REPLACE INTO birth VALUES(?,?,?,?)", (device, cfg, body, self._run.number))

    def fetch(self, spans: Sequence[Span]) -> tuple[list[tuple[int, Batch]], list[tuple[int, int]]]:
        """Read the first rows of these, in bounded number and size: the whole ones, and (row id, readings) of the
        damaged ones. StoreDamaged when a row is missing.
        """
        whole: list[tuple[int, Batch]] = []
        bad: list[tuple[int, int]] = []
        size = 0
        with self._reading() as db:
            for first, last in spans:
                expected = first
                query = f"SELECT {_COLUMNS} FROM batch WHERE id BETWEEN ? AND ? ORDER BY id"  # noqa: S608
                for found in db.execute(query, (first, last)):
                    row = Row(*found)
                    if row.id != expected:
                        break
                    expected += 1
                    if is_whole(row):
                        whole.append((row.id, to_batch(row)))
                        size += len(row.data)
                    else:
                        bad.append((row.id, row.readings if isinstance(row.readings, int) else 0))
                    if len(whole) + len(bad) >= CHUNK_ROWS or size >= CHUNK_BYTES:
                        return whole, bad
                if expected <= last:
                    raise StoreDamaged(f"row {expected} is missing")
        return whole, bad

    def load(self, key: str) -> Any:
        """Read what `state` holds under the key, None when nothing."""
        with self._reading() as db:
            found = db.execute("SELECT * FROM state WHERE key=?", (key,)).fetchone()
        return None if found is None or not is_sound("state", found) else msgpack.unpackb(found[1])

    def births(self) -> list[tuple[str, str, dict[str, Any]]]:
        with self._reading() as db:
            rows = db.execute("SELECT * FROM birth ORDER BY device,cfg").fetchall()
        return [(row[0], row[1], msgpack.unpackb(row[2])) for row in rows if is_sound("birth", row)]

    def shut(self) -> None:
        """Close the file; the last one to close moves the log into it."""
        if self._db is not None:
            opening.close(self._db)
            self._db = None

    # ---- sizes and errors

    def _room(self) -> int:
        """Pages that are free under the cap."""
        assert self._db is not None
        return self._pages - pages_used(self._db)

    def _measure(self, job: Job, done: Done) -> None:
        with self._reading() as db:
            done.figures = figures(db, self.path, job.firsts or [row[0] for row in job.rows[:1]])
        data = sum(len(batch.data) + ROW_HEAD for _, batch, _ in job.rows)
        done.written = _COMMIT_BYTES + data * 9 // 4

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        if self._db is None:
            raise DiskFailed("the database is closed")
        try:
            yield self._db
        except opening.FAILURES as error:
            raise self._failed(error) from error

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        db.execute("ROLLBACK")

    def _failed(self, error: Exception) -> GatewayError:
        """Judge the error; after all but a full or busy disk the handle is not trusted any more."""
        if opening.code(error) not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY):
            self.shut()
        return judge(error)
