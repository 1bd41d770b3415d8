"""How `gateway ioc tail` shows readings: JSON lines, plain lines, or a live table on a terminal."""

from __future__ import annotations

import json
import sys
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, Self

from drivers.base import GOOD
from gateway.clock import Clock
from gateway.model import Reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.live import Live
    from rich.table import Table

    from gateway.ioc.gaps import Tally

_ROWS = 1000
_REDRAW = 4  # times per second

CLASSES = (
    ("dropped", "dropped"),
    ("lost", "lost"),
    ("on_its_way", "on its way"),
    ("unexplained", "unexplained"),
)
"""Of missing numbers: field of a tally, and what people call it."""


class Printer(Protocol):
    """Shows readings; `shown` counts them."""

    shown: int

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...
    def show(self, reading: Reading, unit: str | None) -> None: ...
    def foot(self, tallies: Sequence[Tally]) -> None: ...
    def flush(self) -> None: ...


def printer_of(*, as_json: bool) -> Printer:
    """The printer that fits where the output goes."""
    if as_json:
        return Lines(as_json=True)
    return Screen() if sys.stdout.isatty() else Lines(as_json=False)


@dataclass
class Lines:
    """One line per reading."""

    as_json: bool
    shown: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.flush()

    def show(self, reading: Reading, unit: str | None) -> None:
        if self.as_json:
            print(json.dumps(as_object(reading, unit), ensure_ascii=False))
            return
        at = datetime.fromtimestamp(reading.ts / 1000, UTC).isoformat(timespec="milliseconds")
        value = "-" if reading.value is None else f"{reading.value} {unit or ''}".strip()
        late = " late" if reading.hist else ""
        line = f"{at[:-6]}Z {reading.gw} {reading.device} {reading.point} {value} {reading.quality}{late}"
        print(printable(line))

    def foot(self, tallies: Sequence[Tally]) -> None:
        """Lines are readings and nothing else."""

    def flush(self) -> None:
        sys.stdout.flush()


def as_object(reading: Reading, unit: str | None) -> dict[str, Any]:
    """A reading with the keys of the contract, section 6."""
    return {
        "gw": reading.gw,
        "device": reading.device,
        "point": reading.point,
        "ts": reading.ts,
        "value": reading.value,
        "unit": unit,
        "quality": reading.quality,
        "epoch": reading.epoch,
        "seq": reading.seq,
        "hist": reading.hist,
    }


def missing(tallies: Sequence[Tally]) -> str:
    """How many batches and events are missing by class; empty when none are."""
    from gateway.ioc.gaps import count

    sums = [(sum(count(getattr(tally, field)) for tally in tallies), name) for field, name in CLASSES]
    said = [f"{number} {name}" for number, name in sums if number]
    return f"missing batches: {', '.join(said)}" if said else ""


def printable(text: str) -> str:
    """The text without what could command the terminal: it comes from outside."""
    return "".join(c if c.isprintable() else "?" for c in text)


@dataclass(slots=True)
class Row:
    """The latest live reading of a point, and how often there was one."""

    reading: Reading
    unit: str | None
    times: deque[int] = field(default_factory=lambda: deque(maxlen=10))
    late: int = 0

    @property
    def rate(self) -> str:
        span = self.times[-1] - self.times[0] if len(self.times) > 1 else 0
        return f"{(len(self.times) - 1) * 1000 / span:.1f}" if span > 0 else ""


class Screen:
    """A live table: one row per point."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self.shown = 0
        self._clock = Clock("system")
        self._rows: dict[tuple[str, str, str], Row] = {}
        self._missing = ""
        self._console = Console()
        self._live: Live = Live(console=self._console, get_renderable=self.table, refresh_per_second=_REDRAW)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def show(self, reading: Reading, unit: str | None) -> None:
        """Historical readings are counted; they never overwrite live values."""
        key = reading.gw, reading.device, reading.point
        row = self._rows.get(key)
        if row is None:
            if len(self._rows) >= _ROWS:
                return
            row = self._rows[key] = Row(reading, unit)
        row.late += reading.hist
        if not reading.hist or row.reading.hist:
            row.reading, row.unit = reading, unit
            row.times.append(reading.ts)

    def foot(self, tallies: Sequence[Tally]) -> None:
        """What is missing stands below the table."""
        self._missing = missing(tallies)

    def flush(self) -> None:
        """The table redraws itself."""

    def table(self) -> Table:
        """As many rows as fit on the terminal."""
        from rich.table import Table
        from rich.text import Text

        title = f"{self.shown} readings, {len(self._rows)} points"
        table = Table(title=title, caption=self._missing or None, expand=True)
        for name, side in (
            ("device", "left"), ("point", "left"), ("value", "right"), ("unit", "left"), ("quality", "left"),
            ("age s", "right"), ("per s", "right"), ("late", "right"),
        ):  # fmt: skip
            table.add_column(name, justify=side, no_wrap=True)  # type: ignore[arg-type]  # a literal by hand
        now = self._clock.wall() * 1000
        several = len({key[0] for key in self._rows}) > 1
        room = max(1, self._console.size.height - 6 - bool(self._missing))
        for (gw, device, point), row in sorted(self._rows.copy().items())[:room]:  # redrawn by a thread
            cells = (
                f"{gw} {device}" if several else device,
                point,
                "-" if row.reading.value is None else str(row.reading.value),
                row.unit or "",
                row.reading.quality,
                f"{max(0.0, (now - row.reading.ts) / 1000):.1f}",
                row.rate,
                str(row.late or ""),
            )
            style = None if row.reading.quality == GOOD else "yellow"
            table.add_row(*(Text(printable(cell)) for cell in cells), style=style)
        return table
