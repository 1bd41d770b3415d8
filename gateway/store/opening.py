"""Opens the database file, and moves aside the one that cannot be used."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from gateway.errors import GatewayError, StoreDamaged

VERSION = 2
"""`user_version` of the tables below."""
PAGE = 1024
"""Bytes per page: a commit of one batch touches three pages, so small pages wear the flash least (measured)."""
CHECKPOINT = 128
"""Pages in the write-ahead log after which they are moved into the file."""
MAGIC = b"SQLite format 3\0"
"""What the file's header begins with (https://www.sqlite.org/fileformat2.html, section "The Database Header")."""
_HEADER = 100  # bytes
_WRITE_VERSION, _WAL = 18, 2  # where in it stands what a writer must understand, and the most that SQLite does
_ASIDE_KEPT = 2
_CHECK_BELOW, _CHECK_CLEAN_BELOW = 16 * 2**20, 4 * 2**20
"""Bytes; above, a full check takes seconds on flash, and every row has its own CRC."""

_TABLES = """
CREATE TABLE batch(id INTEGER PRIMARY KEY,kept,n,t0,m0,clk,zipped,origin,crc,data);
CREATE TABLE run(n INTEGER PRIMARY KEY,epoch,ended,e,c,t);
CREATE TABLE state(key PRIMARY KEY,value) WITHOUT ROWID;
CREATE TABLE birth(device,cfg,body,last,PRIMARY KEY(device,cfg)) WITHOUT ROWID;
"""

NAME_EPOCHS = "UPDATE run SET epoch=n||'-'||epoch WHERE instr(epoch,'-')=0;"
"""Version 1 kept an epoch without its number, which an imported one need not share with its run."""
_MIGRATIONS = {1: f"ALTER TABLE run RENAME COLUMN token TO epoch;{NAME_EPOCHS}"}
"""From each earlier version to the next one."""

_DISK = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOLFS,
}

FAILURES = (sqlite3.Error, UnicodeDecodeError)
"""What a query may raise: the second, where a damaged file has got its bytes into SQLite's message."""


class DiskFailed(GatewayError):
    """The disk cannot be written or read now: keep what is new in memory, try again. The file itself may be sound."""


def code(error: Exception) -> int:
    """SQLite's primary result code."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF


def is_full(error: DiskFailed) -> bool:
    """Whether SQLite had no room: under its cap, or on the disk."""
    cause = error.__cause__
    return isinstance(cause, sqlite3.Error) and code(cause) == sqlite3.SQLITE_FULL


def judge(error: Exception) -> DiskFailed | StoreDamaged:
    """Whether the disk is in trouble or the file is damaged."""
    return DiskFailed(str(error)) if code(error) in _DISK else StoreDamaged(str(error))


def connect(path: Path, pages: int) -> sqlite3.Connection:
    """Open or create the database, at most so many pages large. One of FAILURES when it cannot be used."""
    _spare_log(path)
    _be_writable(path)
    db = sqlite3.connect(path, isolation_level=None, cached_statements=32)
    try:
        db.text_factory = lambda raw: raw.decode("utf-8", "replace")  # a damaged text is caught by the row's CRC
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version < 0:
            raise sqlite3.DatabaseError(f"its version is {version}")
        for pragma in (
            f"page_size={PAGE}",
            "journal_mode=WAL",
            "synchronous=FULL",
            f"wal_autocheckpoint={CHECKPOINT}",
            f"journal_size_limit={2 * CHECKPOINT * PAGE}",
            f"max_page_count={pages}",
            "cache_size=-512",
            "temp_store=MEMORY",
            "secure_delete=OFF",  # Debian builds with it on: every freed page would be written once more
        ):
            db.execute(f"PRAGMA {pragma}").fetchall()
        if version < VERSION:
            steps = "".join(_MIGRATIONS[number] for number in range(version, VERSION)) if version else _TABLES
            db.executescript(f"BEGIN IMMEDIATE;{steps}PRAGMA user_version={VERSION};COMMIT;")
    except FAILURES:
        close(db)
        raise
    return db


def close(db: sqlite3.Connection) -> None:
    """Close; a disk that fails now has been reported before, or will be when the file is opened again."""
    with contextlib.suppress(sqlite3.Error):
        db.close()


def is_newer(path: Path) -> bool:
    """Whether a later version of the agent has written the file, which is not touched."""
    if not path.exists():
        return False
    try:
        with contextlib.closing(read_only(path)) as db:
            version: int = db.execute("PRAGMA user_version").fetchone()[0]
    except FAILURES:
        return False  # opening it will say why
    return version > VERSION


def read_only(path: Path) -> sqlite3.Connection:
    _spare_log(path)
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    db.text_factory = lambda raw: raw.decode("utf-8", "replace")
    return db


def check(db: sqlite3.Connection, path: Path, clean: bool) -> None:
    """Look through a file unless it is too large, sooner if it was closed cleanly. StoreDamaged when it is not sound.

    Reading alone does not find everything: a leaf in the place of the root is a sound tree with few rows.
    """
    if path.stat().st_size <= (_CHECK_CLEAN_BELOW if clean else _CHECK_BELOW):
        verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise StoreDamaged(verdict)


def move_aside(path: Path, kind: str) -> Path:
    """Rename the database with its log to `<name>.<kind>-<n>`; of damaged ones the last two are kept."""
    number = 1 + max((_number(old) for old in asides(path, kind)), default=0)
    aside = path.with_name(f"{path.name}.{kind}-{number}")
    for suffix in ("-shm", "-wal", ""):  # the log first: a fresh file must never find an old log beside it
        _rename(Path(f"{path}{suffix}"), Path(f"{aside}{suffix}"))
    if kind == "corrupt":
        for old in sorted(asides(path, kind), key=_number)[:-_ASIDE_KEPT]:
            for suffix in ("-shm", "-wal", ""):
                Path(f"{old}{suffix}").unlink(missing_ok=True)
    _settle(path.parent)
    return aside


def sizes(path: Path) -> int:
    """Bytes of the database and its log on disk."""
    total = 0
    for suffix in ("", "-wal"):
        with contextlib.suppress(FileNotFoundError):
            total += Path(f"{path}{suffix}").stat().st_size
    return total


def asides(path: Path, kind: str) -> list[Path]:
    """Files that were moved aside."""
    return [old for old in path.parent.glob(f"{path.name}.{kind}-*") if old.name.rpartition("-")[2].isdigit()]


def _spare_log(path: Path) -> None:
    """Fail where a file is as good as empty and its log is not: SQLite would throw the log away."""
    log = Path(f"{path}-wal")
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size < _HEADER and log.stat().st_size:
            raise sqlite3.DatabaseError("the file is cut off, its log is not")


def _be_writable(path: Path) -> None:
    """Fail where a damaged header makes SQLite take a file for one that it may only read: for ever, on a sound disk."""
    with contextlib.suppress(OSError), path.open("rb") as file:  # SQLite will say why
        head = file.read(_HEADER)
        if head.startswith(MAGIC) and len(head) == _HEADER and head[_WRITE_VERSION] > _WAL:
            raise sqlite3.DatabaseError("its header says that a later SQLite has written it")


def _number(aside: Path) -> int:
    return int(aside.name.rpartition("-")[2])


def _rename(old: Path, new: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        old.rename(new)


def _settle(folder: Path) -> None:
    """Make the renames durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
