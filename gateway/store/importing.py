"""Takes the batches of exported files into a store whose agent does not run. The next run sends them as backlog."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgpack

from gateway.errors import GatewayError, StoreDamaged
from gateway.model import Batch, StoreSettings
from gateway.store import look, opening
from gateway.store.capacity import job_bytes, pages, row_pages
from gateway.store.disk import NAME
from gateway.store.lock import Lock
from gateway.store.rows import LAST_SEQ, STREAMS, Run, row_id, to_row
from gateway.uplink.payload.batch_file import Head
from gateway.uplink.payload.decode import decode, unpack_map
from gateway.uplink.topics import Topics

_EPOCH = re.compile(r"[0-9]{1,9}-[0-9a-f]{16}")
_AT_ONCE = 64  # messages in one transaction
_FREE_SHARE = 10  # one part in so many stays free for what the agent is going to read
_CLOCKS = ("synced", "holdover", "corrected", "unsynced")
_LIMIT = 2**62
_ENVELOPE = ("v", "gw", "epoch", "stream", "seq", "ts", "clk", "hist")
_INSERT = "INSERT INTO batch VALUES(?,?,?,?,?,?,?,?,?,?)"

Birth = tuple[str, str, bytes]
"""(device, cfg, body as MessagePack)"""


@dataclass(slots=True)
class Taken:
    """What came of a file: `new` batches with their readings, those that were `known` already, and the `wrong` ones."""

    new: int = 0
    readings: int = 0
    known: int = 0
    wrong: int = 0


class Incoming:
    """The store of a gateway, opened to take batches in. GatewayError when it cannot be."""

    def __init__(self, settings: StoreSettings, gateway: str) -> None:
        if not Path(settings.path).is_dir():
            raise GatewayError(
                f"There is no folder {settings.path} to import into: start the agent once, it makes its store there."
            )
        self._gateway = gateway
        self._folder = Path(settings.path)
        self._path = self._folder / NAME
        self._pages = pages(settings.max_size)
        self._bytes = job_bytes(settings.max_size)
        self._lock = _locked(self._folder)
        try:
            self._db = self._opened()
        except GatewayError:
            self._lock.release()
            raise

    def _opened(self) -> sqlite3.Connection:
        if opening.is_newer(self._path):
            raise GatewayError(
                f"The store {self._path} was written by a later version of the agent. Use the `gateway` of that "
                f"version."
            )
        try:
            db = opening.connect(self._path, self._pages)
        except opening.FAILURES as error:
            raise self._failed(error) from error
        try:
            opening.check(db, self._path, clean=False)
        except StoreDamaged as error:
            opening.close(db)
            raise self._damaged(str(error)) from error
        return db

    def close(self) -> None:
        """Close the store and let the agent have it, files made by root too."""
        opening.close(self._db)
        self._lock.release()
        if os.geteuid() == 0:
            owner = self._folder.stat()
            for path in self._folder.glob("gateway.*"):
                with contextlib.suppress(OSError):
                    os.chown(path, owner.st_uid, owner.st_gid)

    def check(self, head: Head) -> None:
        """Refuse what is not of this gateway. GatewayError."""
        if head.gw != self._gateway:
            raise GatewayError(
                f"it holds readings of gateway {head.gw!r:.80}, and this store is of {self._gateway!r}. Import it "
                f"there, or let the IOC read it (gateway ioc read)."
            )
        if not _EPOCH.fullmatch(head.epoch):
            raise GatewayError(f"its epoch is {head.epoch!r:.60}, which no gateway writes: the file is damaged.")

    def take(self, head: Head, records: Iterator[tuple[str, bytes]]) -> Iterator[Taken]:
        """Take the batches of a file in, some at a time; gives what came of them all so far.

        GatewayError when the store is full or fails, ValueError when the file is damaged: what came before is taken.
        Births come along. What waits already, or is kept, is not touched.
        """
        topics = Topics(head.prefix, head.gw)
        taken = Taken()
        for some in self._portions(records):
            births, batches = [], []
            for topic, payload in some:
                try:
                    if topics.tail(topic).startswith("up/birth/"):
                        births.append(_birth(payload, head))
                    else:
                        batches.append(_batch(payload, head))
                except ValueError:
                    taken.wrong += 1
            try:
                self._write(head, births, batches, taken)
            except opening.FAILURES as error:
                raise self._failed(error) from error
            yield taken

    def _portions(self, records: Iterator[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
        """Cut into what one transaction takes. Where the records end with an error, what came before is given first."""
        some: list[tuple[str, bytes]] = []
        size, damage = 0, None
        try:
            for topic, payload in records:
                some.append((topic, payload))
                size += len(payload)
                if len(some) >= _AT_ONCE or size >= self._bytes:
                    yield some
                    some, size = [], 0
        except ValueError as error:
            damage = error
        if some:
            yield some
        if damage:
            raise damage

    def _write(self, head: Head, births: list[Birth], batches: list[Batch], taken: Taken) -> None:
        """One transaction: the run's row with its first batch."""
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            run = self._run(head)
            for batch in batches:
                identity = row_id(batch.stream, run.number, batch.seq)
                if db.execute("SELECT 1 FROM batch WHERE id=?", (identity,)).fetchone():
                    taken.known += 1
                    continue
                self._need_room(batch)
                db.execute(_INSERT, to_row(identity, batch, kept=False))
                taken.new, taken.readings = taken.new + 1, taken.readings + batch.count
                run = run.reached(identity)
            db.execute("UPDATE run SET e=?,c=?,t=? WHERE n=?", (*run.high, run.number))
            for birth in births:
                db.execute(
                    "INSERT INTO birth VALUES(?,?,?,?) ON CONFLICT DO UPDATE SET last=max(last,excluded.last)",
                    (*birth, run.number),
                )
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    db.execute("ROLLBACK")

    def _run(self, head: Head) -> Run:
        """The run of this epoch; a number that no run here ever had, where the epoch is new."""
        known = look.runs(self._db)
        for run in known.values():
            if run.epoch == head.epoch:
                return run
        number = max([self._lock.starts, *known]) + 1
        self._lock.started(number)
        high = [min(head.high, LAST_SEQ) if stream == head.stream else 0 for stream in STREAMS]
        run = Run(number, head.epoch, head.ended or "unclean", (high[0], high[1], high[2]))
        self._db.execute("INSERT INTO run VALUES(?,?,?,?,?,?)", (number, run.epoch, run.ended, *run.high))
        return run

    def _need_room(self, batch: Batch) -> None:
        """Nothing that waits is dropped for an import."""
        count, free = (self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count"))
        if self._pages - count + free < row_pages(len(batch.data)) + self._pages // _FREE_SHARE:
            raise GatewayError(
                "The store is full: a tenth of [store] max_size stays free for new readings, and nothing that waits is "
                "dropped for an import. What was imported so far is kept. Raise max_size, or start the agent, let it "
                "send what waits, stop it and import the same files again: what is there already is left out."
            )

    def _failed(self, error: sqlite3.Error | UnicodeDecodeError) -> GatewayError:
        if isinstance(opening.judge(error), opening.DiskFailed):
            return GatewayError(
                f"The store {self._path} cannot be written: {error}. Probably the disk is full, mounted read-only or "
                f"failing, or this user may not write it (say `sudo gateway store import ...`). What was imported so "
                f"far is kept: import the same files again when that is mended."
            )
        return self._damaged(str(error))

    def _damaged(self, why: str) -> GatewayError:
        return GatewayError(
            f"The store {self._path} is damaged: {why}. Start the agent once: it moves the file aside and makes a "
            f"fresh one. Then stop it and import again."
        )


def _locked(folder: Path) -> Lock:
    try:
        return Lock(folder)
    except GatewayError as error:
        if isinstance(error.__cause__, BlockingIOError):
            raise GatewayError(
                f"An agent runs on the store in {folder}, and an import needs the store for itself. Stop the agent "
                f"(sudo systemctl stop gateway), import, and start it again (sudo systemctl start gateway)."
            ) from error
        raise


def _birth(payload: bytes, head: Head) -> Birth:
    match body := unpack_map(payload):
        case {"gw": head.gw, "device": str(device), "cfg": str(cfg), "points": list()}:
            return device, cfg, msgpack.packb(body)
    raise ValueError("the birth is of another gateway, or not whole")


def _batch(payload: bytes, head: Head) -> Batch:
    """The batch that a message was made of. ValueError when it is not one of this file."""
    told, body = decode(payload), unpack_map(payload)
    if (told.gw, told.epoch, told.stream, told.part) != (head.gw, head.epoch, head.stream, None):
        raise ValueError("the message is not of this file")
    fits = told.seq <= LAST_SEQ and max(abs(told.t0), abs(told.m0)) < _LIMIT and len(told.boot) <= 64
    if not fits or told.clk not in _CLOCKS:
        raise ValueError("the message has numbers that no gateway writes")
    batch = Batch(told.epoch, told.stream, told.seq, told.boot, told.t0, told.m0, told.clk, 0, False, b"")
    if told.stream != "t":
        return replace(batch, data=msgpack.packb({key: value for key, value in body.items() if key not in _ENVELOPE}))
    if not isinstance(body["d"], bytes):
        raise ValueError("the message is in another form than a gateway stores")  # noqa: TRY004  a peer's mistake
    count = sum(len(block.times) * len(block.points) for block in told.blocks)
    return replace(batch, count=count, zipped="z" in body, data=body["d"])
