"""What the store and its database tell each other. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from gateway.model import Batch
from gateway.spans import Span, Spans
from gateway.store.rows import Run


@dataclass(slots=True)
class Known:
    """What the store knows of rows that it meets on disk.

    `ignore` are settled and to be deleted, or held in memory still; `kept` are settled although no mark says so yet; of
    those in `uncounted` the number of readings is wanted.
    """

    ignore: Spans = field(default_factory=Spans)
    kept: Spans = field(default_factory=Spans)
    uncounted: Spans = field(default_factory=Spans)


@dataclass(slots=True)
class Found:
    """Rows met on disk: `pending` with their `readings`, `kept`, and the readings `counted` of settled ones."""

    pending: Spans = field(default_factory=Spans)
    readings: int = 0
    kept: Spans = field(default_factory=Spans)
    counted: int = 0
    runs: dict[int, Run] = field(default_factory=dict)

    def meet(self, identity: int, kept: int, count: int, known: Known) -> bool:
        """Take one row in; false when it is not wanted."""
        if identity in known.uncounted:
            self.counted += count
        if identity in known.ignore:
            return False
        if kept or identity in known.kept:
            self.kept.add(identity, identity)
        else:
            self.pending.add(identity, identity)
            self.readings += count
        return True


class Figures(NamedTuple):
    """Sizes in bytes: of the files, and of what is in use of them; wall time in ms of the oldest that waits."""

    oldest: int | None = None
    bytes: int = 0
    used: int = 0


@dataclass(slots=True)
class Opened:
    """What an opened database holds. `aside` is where the old file went, `why` in SQLite's words; rows of the file
    `salvaging` are still to come.
    """

    found: Found
    lost: dict[str, Spans] = field(default_factory=dict)
    anchors: dict[str, int] = field(default_factory=dict)
    births: dict[tuple[str, str], int] = field(default_factory=dict)
    aside: Path | None = None
    why: str = ""
    salvaging: str = ""
    figures: Figures = field(default_factory=Figures)


@dataclass(slots=True)
class Job:
    """One transaction. `rows` are (row id, batch, kept); `free` and `keep` are settled; `spared` are in flight.

    `lost_changed` and `free` alone are not worth one: they go along with the next.
    """

    rows: list[tuple[int, Batch, bool]] = field(default_factory=list)
    free: list[Span] = field(default_factory=list)
    free_now: bool = False
    keep: list[Span] = field(default_factory=list)
    kept: Spans = field(default_factory=Spans)
    uncounted: list[Span] = field(default_factory=list)
    spared: frozenset[int] = frozenset()
    lost: dict[str, Spans] = field(default_factory=dict)
    lost_changed: bool = False
    state: dict[str, bytes] = field(default_factory=dict)
    births: dict[tuple[str, str], bytes] = field(default_factory=dict)
    forget: list[tuple[str, str]] = field(default_factory=list)
    firsts: list[int] = field(default_factory=list)
    ended: str = ""

    def __bool__(self) -> bool:
        return bool(
            self.rows
            or (self.free and self.free_now)
            or self.keep
            or self.uncounted
            or self.state
            or self.births
            or self.forget
            or self.ended
        )


@dataclass(slots=True)
class Done:
    """What came of a job: rows dropped for space with their readings, kept rows given up, whether `free` was done."""

    dropped: list[tuple[int, int]] = field(default_factory=list)
    unkept: Spans = field(default_factory=Spans)
    counted: int = 0
    freed: bool = False
    figures: Figures = field(default_factory=Figures)
    written: int = 0
