"""Reads rows from the pages of a damaged database, without SQLite and without the tree that leads to them.

The words and numbers are those of https://www.sqlite.org/fileformat2.html, whose sections are named below. Any bytes
may stand anywhere: what is decoded here is true only if its CRC says so.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from gateway.spans import Spans
from gateway.store import frames
from gateway.store.opening import MAGIC, PAGE
from gateway.store.rows import LAST_RUN, LAST_SEQ, Row, row_id

_LEAF, _INDEX_LEAF = 0x0D, 0x0A  # of a table with row ids, and of one without
_COLUMNS = len(Row._fields)
_INTEGERS = (0, 1, 2, 3, 4, 6, 8)  # bytes by serial type; the first is NULL
_IDS = range(1, row_id("t", LAST_RUN, LAST_SEQ) + 1)
_SURELY = 16  # so many numbers of pages in a row are no chance
_LARGEST = 2**21  # bytes of a row; a batch has 48 KiB, a message 1 MiB


def rows(path: Path, reached: Spans) -> Iterator[Row | None]:
    """Rows that are not `reached`, page by page, whole or not; None for a page that has none of them."""
    with contextlib.suppress(OSError), path.open("rb") as file, _log(path) as log:
        for size in _page_sizes(file):
            logged = frames.read(log, size)
            pages = Pages(file, log, size, logged.committed)
            freed = pages.freed()
            for number in range(1, pages.count + 1):
                yield None
                if not freed[number]:
                    yield from leaf(pages, number, reached)
            newer = logged.committed
            for further in (logged.behind, logged.unfinished):
                newer = newer | further
                pages = Pages(file, log, size, newer)
                for number in further:
                    yield None
                    yield from leaf(pages, number, reached)


def behind(path: Path) -> Iterator[tuple[Any, ...]]:
    """Records of other tables than `batch` that were committed to the log behind damage, where SQLite does not look."""
    with contextlib.suppress(OSError), path.open("rb") as file, _log(path) as log:
        for size in _page_sizes(file):
            logged = frames.read(log, size)
            pages = Pages(file, log, size, logged.committed | logged.behind)
            freed = pages.freed()
            for number in logged.behind:
                page = pages[number]
                for cell in () if freed[number] else _cells(page):
                    yield from _records(pages, page, cell)


def _log(path: Path) -> BinaryIO:
    try:
        return Path(f"{path}-wal").open("rb")
    except OSError:
        return BytesIO()


def _page_sizes(file: BinaryIO) -> Iterable[int]:
    """What the header says, and what it must say: it may be damaged, too."""
    head = file.read(18)
    size = int.from_bytes(head[16:18], "big")
    sound = head.startswith(MAGIC) and size >= 512 and not size & (size - 1)
    return dict.fromkeys((size, PAGE)) if sound else (PAGE,)


class Pages:
    """The pages of a file, by number from 1 on; `newer` says where in its log there is a newer content."""

    def __init__(self, file: BinaryIO, log: BinaryIO, size: int, newer: Mapping[int, int]) -> None:
        self._file, self._log, self.size, self._newer = file, log, size, newer
        self.count = max(-(-file.seek(0, 2) // size), *self._newer, 0)

    def __getitem__(self, number: int) -> bytes:
        """Return the page; zeros where there is nothing, or the disk cannot read it."""
        file, at = self._file, (number - 1) * self.size
        if number in self._newer:
            file, at = self._log, self._newer[number]
        try:
            file.seek(at)
            return file.read(self.size).ljust(self.size, b"\0")
        except OSError:
            return bytes(self.size)

    def freed(self) -> bytearray:
        """Mark the pages whose rows were deleted (section "The Freelist"), as far as the header leads to the lists of
        them; without a header, as far as a page can be nothing else than such a list.
        """
        freed = bytearray(self.count + 1)
        head = self[1]
        at = _number(head, 32, 4)
        while head.startswith(MAGIC) and 0 < at <= self.count and not freed[at]:
            following, listed = self._trunk(at)
            for page in (at, *listed):
                if page <= self.count:
                    freed[page] = 1
            at = following
        for number in () if head.startswith(MAGIC) else range(1, self.count + 1):
            _, listed = self._trunk(number)
            if len(set(listed)) == len(listed) >= _SURELY and min(listed) > 0 and max(listed) <= self.count:
                for page in listed:
                    freed[page] = 1
        return freed

    def _trunk(self, number: int) -> tuple[int, list[int]]:
        """Read a page as a list of free ones: (the list's next page, free pages); (0, []) when it is none."""
        following, count, *listed = struct.unpack(f">{self.size // 4}I", self[number])
        return (following, listed[:count]) if count <= len(listed) else (0, [])

    def payload(self, page: bytes, at: int, length: int) -> bytes:
        """Collect a cell's payload; short when its overflow pages end early (section "B-tree Pages")."""
        room = self.size - 4
        local = _local(self.size, length, page[0])
        parts, length = [page[at : at + local]], length - local
        following = _number(page, at + local, 4)
        while length > 0 and 0 < following <= self.count:
            page = self[following]
            parts.append(page[4 : 4 + length])
            length -= room
            following = _number(page, 0, 4)
        return b"".join(parts)


def leaf(pages: Pages, number: int, reached: Spans) -> Iterator[Row]:
    """Decode the rows on a page that are not `reached`; nothing on a page that is no leaf of a table."""
    page = pages[number]
    for cell in _cells(page):
        if cell.id in _IDS and cell.id not in reached:
            for record in _records(pages, page, cell, _COLUMNS):
                yield Row(*record)  # its CRC is still to be looked at


class _Cell(NamedTuple):
    """A row's place on a page; `id` is 0 in a table without row ids."""

    id: int
    length: int
    at: int


def _cells(page: bytes) -> Iterator[_Cell]:
    """The cells of a leaf (section "B-tree Pages")."""
    count = _number(page, 3, 2) if page[0] in (_LEAF, _INDEX_LEAF) else 0
    for pointer in range(8, min(8 + 2 * count, len(page)), 2):
        length, at = _varint(page, _number(page, pointer, 2))
        identity, at = _varint(page, at) if page[0] == _LEAF else (0, at)
        if length <= _LARGEST:
            yield _Cell(identity, length, at)


def _records(pages: Pages, page: bytes, cell: _Cell, columns: int = 0) -> Iterator[tuple[Any, ...]]:
    """Decode a cell's record, if it is one (of so many columns). A column that is the row id is empty in it."""
    begin, types = _types(page[cell.at : cell.at + _local(pages.size, cell.length, page[0])])
    sizes = list(map(_size, types))
    if columns in (0, len(types)) and begin + sum(sizes) == cell.length:
        payload, values = pages.payload(page, cell.at, cell.length), []
        for kind, size in zip(types, sizes, strict=True):
            values.append(_value(kind, payload[begin : begin + size]))
            begin += size
        yield (cell.id, *values[1:]) if cell.id else tuple(values)


def _types(record: bytes) -> tuple[int, list[int]]:
    """Where the values of a record begin, and their serial types (section "Record Format"); never many."""
    end, at = _varint(record, 0)
    types: list[int] = []
    while at < end and len(types) <= _COLUMNS:
        kind, at = _varint(record, at)
        types.append(kind)
    return end, types


def _size(kind: int) -> int:
    if kind >= 12:
        return (kind - 12) // 2
    return _INTEGERS[kind] if kind < len(_INTEGERS) else 8 * (kind == 7)


def _value(kind: int, raw: bytes) -> int | str | bytes | None:
    if kind >= 12:
        return raw.decode("utf-8", "replace") if kind % 2 else raw
    if kind in (8, 9):
        return kind - 8
    return int.from_bytes(raw, "big", signed=True) if 0 < kind < 7 else None  # fractions are in none of our columns


def _local(size: int, length: int, kind: int) -> int:
    """Bytes of a payload that stand in the cell itself, by the size and the kind of the page."""
    most = size - 35 if kind == _LEAF else (size - 12) * 64 // 255 - 23
    least = (size - 12) * 32 // 255 - 23
    if length <= most:
        return length
    local = least + (length - least) % (size - 4)
    return local if local <= most else least


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """(value, where it ends); behind the data there are zeros."""
    value = 0
    for last in range(at, at + 8):
        byte = data[last] if last < len(data) else 0
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, last + 1
    return value << 8 | _number(data, at + 8, 1), at + 9


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "big")
