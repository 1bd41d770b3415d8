"""Writes what waits in a store to files that the IOC reads, while the agent goes on. Nothing in the store changes."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

from gateway.errors import GatewayError
from gateway.spans import Span
from gateway.store import look, opening
from gateway.store.rows import STREAMS, Run, corrected, is_whole, lane, origin_of, parts, to_batch
from gateway.store.tables import anchors
from gateway.uplink.bodies import dump
from gateway.uplink.payload.batch_file import Head, end, head, record
from gateway.uplink.payload.decode import unpack_map
from gateway.uplink.payload.native import message
from gateway.uplink.topics import Topics

FILE_BYTES = 32 * 2**20
"""Bytes of batches in one file, about: a file that is lost or damaged on its way is not everything."""
RESERVE = 64 * 2**20
"""Bytes that an export leaves on the disk that the store itself is on."""
_ENVELOPE = 200  # bytes of a message and its record beside data, prefix and the gateway's id, at most
_CLUSTER = 64 * 1024  # what a file takes beside its bytes
_CHUNK = 1024
_GONE = {errno.EIO, errno.ENODEV, errno.ENXIO, errno.ENOENT, errno.ESTALE}

T = TypeVar("T")


class Piece(NamedTuple):
    """What one file will hold: rows of one stream of one run."""

    stream: str
    run: int
    span: Span
    size: int


@dataclass(frozen=True, slots=True)
class Written:
    """A file that is finished. `damaged` batches were left out."""

    path: Path
    head: Head
    batches: int
    readings: int
    size: int
    damaged: int


class Outgoing:
    """What of a store is to be written: all that waits; with `kept` also what is kept to be sent again."""

    def __init__(self, db: sqlite3.Connection, gateway: str, prefix: str, kept: bool) -> None:
        self._db, self._gateway, self._prefix, self._kept = db, gateway, prefix, kept
        self._runs: dict[int, Run] = _sound(look.runs, db, {})
        self._anchors: dict[str, int] = _sound(anchors, db, {})
        stored: list[tuple[str, str, bytes]] = _sound(_births, db, [])
        self._births = [birth for found in stored if (birth := self._birth(*found))]
        self._pieces: list[Piece] = []
        around = _ENVELOPE + len(self._prefix) + 2 * len(self._gateway)
        for stream in STREAMS:
            sizes = _sizes(self._db, stream, self._kept)
            self._pieces += _cut(stream, ((identity, length + around) for identity, length in sizes))

    @property
    def size(self) -> int:
        """Bytes of all files, at most."""
        births = sum(len(topic) + len(body) + _ENVELOPE for topic, body in self._births)
        return sum(piece.size + births + _CLUSTER for piece in self._pieces)

    def _birth(self, device: str, cfg: str, packed: bytes) -> tuple[str, bytes] | None:
        try:
            body = unpack_map(packed)
        except ValueError:
            return None  # damaged: the readings have their names without it
        if body.get("gw") != self._gateway:
            raise GatewayError(
                f"This store belongs to gateway {body.get('gw')!r:.80}, and the site file names {self._gateway!r}: its "
                f"readings would get a wrong name. Give --config the site file of that gateway."
            )
        return Topics(self._prefix, self._gateway)("up/birth", device, cfg), dump(body)

    def check(self, folder: Path, store: Path) -> None:
        """Say why the folder cannot take the files, before anything is written. GatewayError."""
        try:
            disk, here = os.statvfs(folder), folder.stat()
            if not folder.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        except OSError as error:
            raise GatewayError(
                f"There is no folder {folder}: {error.strerror}. Is the stick plugged in and mounted? `lsblk` shows "
                f"where (sudo mount /dev/sda1 /mnt)."
            ) from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise GatewayError(
                f"{folder} cannot be written: it belongs to another user, or the stick is mounted read-only. Say "
                f"`sudo gateway store export {folder}`, or mount it writable (sudo mount -o remount,rw {folder})."
            )
        for path in (folder / self._head(piece).name for piece in self._pieces):
            if path.exists():
                raise GatewayError(
                    f"{path} is already there, from an earlier export: it is not overwritten, for it may hold more. "
                    f"Nothing was written. Take it to the IOC and delete it, or export into another folder."
                )
        shared = here.st_dev == store.parent.stat().st_dev
        free = max(0, disk.f_bavail * disk.f_frsize - (RESERVE if shared else 0))
        if self.size > free:
            besides = " beside what the store itself needs" if shared else ""
            raise GatewayError(
                f"{folder} has not enough room: {_mb(self.size)} are needed, {_mb(free)} are free{besides}. "
                f"Nothing was written. Take a larger stick, or delete what is on this one."
            )

    def write(self, folder: Path, tell: Callable[[int], None]) -> Iterator[Written]:
        """Write file by file; `tell` hears of the bytes. GatewayError when the folder takes no more.

        What was delivered meanwhile is left out. No file stands under its name before it is whole and on the stick.
        """
        for piece in self._pieces:
            about = self._head(piece)
            written = self._file(folder / about.name, about, piece, tell)
            if written.batches or written.damaged:
                yield written

    def _head(self, piece: Piece) -> Head:
        run = self._runs.get(piece.run) or Run(piece.run, self._epoch(piece), "unclean")
        first, last = (parts(identity)[2] for identity in piece.span)
        high = max(last, run.reached(piece.span[1]).high[STREAMS.index(piece.stream)])
        return Head(self._gateway, self._prefix, run.epoch, piece.stream, first, last, run.ended, high)

    def _epoch(self, piece: Piece) -> str:
        """The name of a run that the table of runs has lost."""
        row = next((row for row in look.rows(self._db, *piece.span) if is_whole(row)), None)
        return origin_of(row.id, row.origin)[0] if row else str(piece.run)

    def _file(self, path: Path, about: Head, piece: Piece, tell: Callable[[int], None]) -> Written:
        topics = Topics(self._prefix, self._gateway)
        births = self._births if piece.stream == "t" else []
        batches = readings = damaged = 0
        with _whole(path) as file:
            file.write(head(about))
            for birth in births:
                file.write(record(*birth))
            for row in look.rows(self._db, *piece.span):
                if not is_whole(row):
                    damaged += 1
                elif self._kept or not row.kept:
                    batch = corrected(to_batch(row), self._anchors)
                    written = file.write(record(topics.of(batch), message(self._gateway, batch)))
                    batches, readings = batches + 1, readings + batch.count
                    tell(written)
            file.write(end(len(births) + batches))
            size = file.tell()
            if not batches:
                raise _Nothing
        return Written(path, about, batches, readings, size if batches else 0, damaged)


class _Nothing(Exception):
    """A file would hold nothing: all of it was delivered meanwhile, or is damaged."""


@contextmanager
def _whole(path: Path) -> Iterator[BinaryIO]:
    """Write a file that gets its name when it is complete and on the disk; nothing is left of one that is not."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
        _settle(path.parent)
    except _Nothing:
        pass
    except OSError as error:
        raise GatewayError(_why(path.parent, error)) from error
    finally:
        with contextlib.suppress(OSError):  # not there any more when all went well
            part.unlink()


def _settle(folder: Path) -> None:
    """Make the name durable, where the file system knows how."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def _why(folder: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        what, then = "is full", "Take a larger stick, or delete what is on this one"
    elif error.errno == errno.EROFS:
        what, then = "became read-only", "Its file system may be damaged: check it on a computer, or take another one"
    elif error.errno in _GONE:
        what, then = "was pulled out, or is failing", "Plug it in firmly and mount it again, or take another one"
    else:
        what, then = f"does not take the file ({error.strerror})", "Try another stick"
    return f"{folder} {what}. The file that was being written is not there; those named above are whole. {then}."


# ---- what there is ---------------------------------------------------------------------------------------------------


def _sound(read: Callable[[sqlite3.Connection], T], db: sqlite3.Connection, instead: T) -> T:
    """Read a small table; `instead` where it is damaged: the batches explain themselves."""
    try:
        return read(db)
    except opening.FAILURES as error:
        if isinstance(opening.judge(error), opening.DiskFailed):
            raise
        return instead


def _births(db: sqlite3.Connection) -> list[tuple[str, str, bytes]]:
    return db.execute("SELECT device,cfg,body FROM birth ORDER BY device,cfg").fetchall()


def _sizes(db: sqlite3.Connection, stream: str, kept: bool) -> Iterator[tuple[int, int]]:
    """(row id, bytes) of what is wanted of a stream, in order, without reading the data."""
    query = (
        "SELECT id,coalesce(length(data),0) FROM batch WHERE id BETWEEN ? AND ? AND (kept=0 OR ?) ORDER BY id LIMIT ?"
    )
    first, last = lane(stream)
    while True:
        try:
            found = db.execute(query, (first, last, kept, _CHUNK)).fetchall()
        except opening.FAILURES as error:
            if isinstance(opening.judge(error), opening.DiskFailed):
                raise
            readable = (row for row in look.rows(db, first, last) if is_whole(row) and (kept or not row.kept))
            yield from sorted((row.id, len(row.data)) for row in readable)
            return
        yield from found
        if len(found) < _CHUNK:
            return
        first = found[-1][0] + 1


def _cut(stream: str, sizes: Iterator[tuple[int, int]]) -> Iterator[Piece]:
    """Cut a stream into files: at the end of a run, and where one becomes too large."""
    piece: Piece | None = None
    for identity, size in sizes:
        run = parts(identity)[1]
        if piece is not None and (piece.run != run or piece.size + size > FILE_BYTES):
            yield piece
            piece = None
        first, before = (piece.span[0], piece.size) if piece else (identity, 0)
        piece = Piece(stream, run, (first, identity), before + size)
    if piece is not None:
        yield piece


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
