"""Where in a store's files each batch stands: what damage may cost, and what it may not."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

from promise import Key

from gateway.spans import Spans
from gateway.store import frames
from gateway.store.opening import PAGE
from gateway.store.pages import Pages, leaf
from gateway.store.rows import is_whole, origin_of, parts

DATABASE, LOG = "gateway.db", "gateway.db-wal"
FRAME_HEAD = 24
Files = dict[str, bytes]
Place = tuple[str, int]
"""(file, first byte) of a page."""


class Watched(Pages):
    """Pages that remember which of them were read, in their order."""

    def __init__(self, files: Files) -> None:
        log = BytesIO(files.get(LOG, b""))
        super().__init__(BytesIO(files.get(DATABASE, b"")), log, PAGE, frames.read(log, PAGE).committed)
        self.read: list[Place] = []

    def __getitem__(self, number: int) -> bytes:
        logged = self._newer.get(number)
        self.read.append((DATABASE, (number - 1) * PAGE) if logged is None else (LOG, logged))
        return super().__getitem__(number)


def places(files: Files) -> Iterator[tuple[Key, set[Place]]]:
    """Every batch in the files, with the page that its row stands on and those where the row goes on."""
    pages = Watched(files)
    freed = pages.freed()
    for number in range(1, pages.count + 1):
        pages.read, seen = [], 1
        for row in () if freed[number] else leaf(pages, number, Spans()):
            if is_whole(row):
                stream, _, seq = parts(row.id)
                yield (origin_of(row.id, row.origin)[0], stream, seq), {pages.read[0], *pages.read[seen:]}
            seen = len(pages.read)


def untouched(before: Files, after: Files) -> set[Key]:
    """The batches that must be there still: no byte of their pages was changed.

    In the log the damage costs the frames that were hit, the one behind each of them, and all that was committed later
    where that cannot be told from writes torn by a power cut.
    """
    log, now = before.get(LOG, b""), after.get(LOG, b"")
    chain = frames.read(BytesIO(log[: _alike(log, now)]), PAGE).committed.values()
    is_told = frames.read(BytesIO(now), PAGE).damaged

    def is_sound(place: Place) -> bool:
        name, first = place
        if name == LOG and first in chain:
            return True
        begin = first if name == DATABASE else first - PAGE - 2 * FRAME_HEAD
        same = before[name][max(0, begin) : first + PAGE] == after.get(name, b"")[max(0, begin) : first + PAGE]
        return same and (name == DATABASE or is_told)

    return {key for key, standing in places(before) if all(map(is_sound, standing))}


def _alike(one: bytes, other: bytes) -> int:
    """Bytes until they differ."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))
