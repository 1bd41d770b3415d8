"""A store seen from another process: read-only, and without its lock. The agent goes on beside it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import GatewayError
from gateway.model import StoreSettings
from gateway.store import opening, salvage
from gateway.store.disk import NAME
from gateway.store.opening import PAGE, VERSION
from gateway.store.rows import STREAMS, Row, Run, corrected, is_whole, lane, origin_of, parts, run_span, to_batch
from gateway.store.tables import anchors

KINDS = ("corrupt", "newer")
"""Why a file was moved aside."""
_CHUNK = 64  # rows read at once: no snapshot is held for long, so the agent's log stays small


def file_of(settings: StoreSettings) -> Path:
    """Where a site's store is."""
    return Path(settings.path) / NAME


def waiting(folder: Path) -> int:
    """Return how many readings on disk are not settled; 0 where there is no store, or it cannot be read now."""
    try:
        with closing(sqlite3.connect(f"file:{folder / NAME}?mode=ro", uri=True, timeout=0.1)) as database:
            (readings,) = database.execute("SELECT coalesce(sum(n), 0) FROM batch WHERE NOT kept").fetchone()
    except opening.FAILURES:
        return 0
    return int(readings)


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a store's file to read. GatewayError says why it cannot be read, also later on."""
    if not _exists(path):
        raise GatewayError(
            f"There is no store at {path}: no agent has stored anything there yet, or the site file's [store] path "
            f"names another folder. `gateway check` shows what the site file says."
        )
    try:
        with closing(_connected(path)) as db:
            yield db
    except opening.FAILURES as error:
        raise GatewayError(_why(path, error)) from error


def _exists(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except PermissionError:
        raise GatewayError(f"This user may not look into {path.parent}: say `sudo gateway store ...`.") from None
    except OSError:
        return False


def _connected(path: Path) -> sqlite3.Connection:
    db = opening.read_only(path)
    try:
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.OperationalError:
            if _size(Path(f"{path}-wal")) or os.access(path.parent, os.W_OK):
                raise
            db.close()  # a card that is mounted read-only, and was closed cleanly: nothing else can change it
            db = sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True, isolation_level=None)
            version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise GatewayError(
                f"The store {path} was written by a later version of the agent (tables of version {version}, this one "
                f"knows {VERSION}). Use the `gateway` of that version."
            )
    except (*opening.FAILURES, GatewayError):
        db.close()
        raise
    return db


def _why(path: Path, error: Exception) -> str:
    if not os.access(path, os.R_OK):
        return f"This user may not read the store {path}: say `sudo gateway store ...`."
    if opening.code(error) in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
        return (
            f"The store {path} cannot be opened: {error}. It was not closed cleanly, and SQLite must write beside it "
            f"to read it. Mount its disk writable (sudo mount -o remount,rw MOUNTPOINT), or copy {path.name} and "
            f"{path.name}-wal together into a folder that you may write."
        )
    if isinstance(opening.judge(error), opening.DiskFailed):
        return f"The store {path} cannot be read now: {error}. The disk may be failing (dmesg tells): try again."
    return (
        f"The store {path} is damaged: {error}. Restart the agent (sudo systemctl restart gateway): it moves the file "
        f"aside, brings over what can be read, and goes on with a fresh one."
    )


# ---- rows ------------------------------------------------------------------------------------------------------------


def rows(db: sqlite3.Connection, first: int, last: int) -> Iterator[Row]:
    """Every row from `first` to `last` that can be read, whole or not, a few at a time; damaged pages are left out."""
    query = "SELECT * FROM batch WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?"
    while first <= last:
        try:
            found = [salvage.as_row(row) for row in db.execute(query, (first, last, _CHUNK))]
        except opening.FAILURES as error:
            if isinstance(opening.judge(error), opening.DiskFailed) or opening.code(error) == sqlite3.SQLITE_INTERRUPT:
                raise
            yield from salvage.lane_rows(db, first, last)
            return
        yield from found
        if len(found) < _CHUNK:
            return
        first = found[-1].id + 1


def places(db: sqlite3.Connection) -> Iterator[tuple[str, int]]:
    """(stream, run) of everything that the table holds, in the order of sending."""
    first, last = 1, lane(STREAMS[-1])[1]
    query = "SELECT id FROM batch WHERE id BETWEEN ? AND ? ORDER BY id LIMIT 1"
    while found := db.execute(query, (first, last)).fetchone():
        stream, number, _ = parts(found[0])
        yield stream, number
        first = run_span(stream, number)[1] + 1


def runs(db: sqlite3.Connection) -> dict[int, Run]:
    """Every run by its number."""
    found = {}
    for number, epoch, ended, *high in db.execute("SELECT * FROM run ORDER BY n"):
        name = str(epoch) if "-" in str(epoch) else f"{number}-{epoch}"  # version 1
        e, c, t = high
        found[number] = Run(number, name, str(ended), (e, c, t))
    return found


# ---- status ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Held:
    """Some batches. `since` is the wall time of the oldest in ms, None when there is none."""

    batches: int = 0
    readings: int = 0
    since: int | None = None

    def __add__(self, other: Held) -> Held:
        since = min((time for time in (self.since, other.since) if time is not None), default=None)
        return Held(self.batches + other.batches, self.readings + other.readings, since)


@dataclass(frozen=True, slots=True)
class Place:
    """What is held of one stream of one run: `waiting` for the IOC, `kept` to be sent again if asked for."""

    run: Run
    stream: str
    waiting: Held
    kept: Held


@dataclass(frozen=True, slots=True)
class Survey:
    """All of a store. Bytes: `used` of its pages, `on_disk` with the log."""

    path: Path
    runs: tuple[Run, ...]
    places: tuple[Place, ...]
    used: int
    on_disk: int
    aside: tuple[Path, ...]

    def waiting(self, stream: str | None = None, run: int | None = None) -> Held:
        """What waits, of one stream or run or of all."""
        chosen = (p for p in self.places if stream in (None, p.stream) and run in (None, p.run.number))
        return sum((place.waiting for place in chosen), Held())

    def kept(self, stream: str) -> Held:
        return sum((place.kept for place in self.places if place.stream == stream), Held())


def survey(path: Path) -> Survey:
    """Look at everything but the data. GatewayError when it cannot be read."""
    with reading(path) as db:
        db.execute("BEGIN")  # all of it as it is at one moment
        known = runs(db)
        found = []
        by_boot = anchors(db)
        for stream, number in places(db):
            run = known[number] = known.get(number) or Run(number, _epoch(db, stream, number), "unclean")
            found.append(_place(db, run, stream, by_boot))
        pages, free = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count"))
    return Survey(
        path, tuple(known.values()), tuple(found), (pages - free) * PAGE, opening.sizes(path), tuple(aside(path))
    )


def aside(path: Path) -> list[Path]:
    """Files that were moved aside, the oldest first."""
    found = [old for kind in KINDS for old in opening.asides(path, kind)]
    with contextlib.suppress(OSError):
        found.sort(key=lambda old: old.stat().st_mtime)
    return found


def _epoch(db: sqlite3.Connection, stream: str, number: int) -> str:
    """The name of a run that the table of runs has lost: its rows know it."""
    query = "SELECT id,origin FROM batch WHERE id BETWEEN ? AND ? LIMIT 1"
    identity, origin = db.execute(query, run_span(stream, number)).fetchone()
    return origin_of(identity, str(origin))[0]


def _place(db: sqlite3.Connection, run: Run, stream: str, by_boot: dict[str, int]) -> Place:
    query = "SELECT kept=1,count(*),sum(n),min(id) FROM batch WHERE id BETWEEN ? AND ? GROUP BY 1"
    held = {
        kept: Held(batches, int(readings or 0), _time(db, first, by_boot))
        for kept, batches, readings, first in db.execute(query, run_span(stream, run.number))
    }
    return Place(run, stream, held.get(0, Held()), held.get(1, Held()))


def _time(db: sqlite3.Connection, identity: int | None, by_boot: dict[str, int]) -> int | None:
    """Wall time of a row in ms, as it will be sent."""
    found = db.execute("SELECT * FROM batch WHERE id=?", (identity,)).fetchone()
    if found is None or not is_whole(salvage.as_row(found)):
        return None
    return corrected(to_batch(salvage.as_row(found)), by_boot).t0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
