"""What `gateway watch` shows: a table that moves on a terminal, lines elsewhere."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, Self

from gateway.cli.read_view import style_of, unit_text, value_text
from gateway.clock import Clock

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

BARS = "▁▂▃▄▅▆▇█"
TREND = 20
"""Last values that a small curve shows."""
STATUS_EVERY = 2.0
FRAME_LINES = 3
"""Lines of the screen that are neither values nor footer."""


class View(Protocol):
    """Shows values as they come."""

    is_live: bool
    """Whether it wants to be refreshed, and to know how the buses are."""

    def take(self, message: Mapping[str, Any]) -> None: ...

    def refresh(self) -> None: ...

    def status_is_old(self) -> bool: ...

    def take_status(self, status: Sequence[Mapping[str, Any]]) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Lines:
    """One line for each value that changes, for logs, pipes and machines."""

    is_live = False

    def __init__(self, for_machines: bool) -> None:
        self._for_machines = for_machines
        self._last: dict[tuple[str, str], tuple[object, str]] = {}

    def take(self, message: Mapping[str, Any]) -> None:
        device = message["device"]
        for point, value, unit, quality, age in message["values"]:
            if self._last.get((device, point)) == (value, quality):
                continue
            self._last[device, point] = (value, quality)
            ts = message["at"] - round(age * 1000)
            if self._for_machines:
                told = {"device": device, "point": point, "ts": ts, "value": value, "unit": unit, "quality": quality}
                print(json.dumps(told, ensure_ascii=False), flush=True)
            else:
                when = datetime.fromtimestamp(ts / 1000).astimezone()
                text = f"{value_text(value)} {unit_text(unit)}".strip()
                print(f"{when:%H:%M:%S}  {device}  {point}  {text}  {quality}", flush=True)

    def refresh(self) -> None: ...

    def status_is_old(self) -> bool:
        return False

    def take_status(self, status: Sequence[Mapping[str, Any]]) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


@dataclass(slots=True)
class Row:
    """One point: its last sample, when it came (monotonic seconds of this process), the values before."""

    value: object = None
    unit: str = "1"
    quality: str = ""
    at: float = 0.0
    trend: deque[float] = field(default_factory=lambda: deque(maxlen=TREND))


class LiveView:
    """A table of all points, with the buses below."""

    is_live = True

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._now = Clock("system").monotonic
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False)
        self._rows: dict[tuple[str, str], Row] = {}
        self._dead: set[str] = set()
        self._buses: list[Mapping[str, Any]] = []
        self._status_at = self._now()

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def take(self, message: Mapping[str, Any]) -> None:
        device, now = message["device"], self._now()
        (self._dead.add if message["dead"] else self._dead.discard)(device)
        for point, value, unit, quality, age in message["values"]:
            row = self._rows.setdefault((device, point), Row())
            row.value, row.unit, row.quality, row.at = value, unit, quality, now - age
            if isinstance(value, int | float):
                row.trend.append(value)

    def refresh(self) -> None:
        self._live.update(self._draw(), refresh=True)

    def status_is_old(self) -> bool:
        return self._now() - self._status_at >= STATUS_EVERY

    def take_status(self, status: Sequence[Mapping[str, Any]]) -> None:
        self._status_at = self._now()
        self._buses = [bus for bus in status if "device" not in bus]
        self._dead = {one["device"] for one in status if "device" in one and one["dead"]}

    def _draw(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        footer = [self._bus_line(bus) for bus in self._buses] or [Text("waiting for the buses", "dim")]
        room = max(self._console.height - len(footer) - FRAME_LINES, 1)
        table = Table(box=None, pad_edge=False, expand=True)
        for name, ratio in (("device", 3), ("point", 4), ("value", 3), ("unit", 2), ("quality", 3)):
            align: Any = "right" if name == "value" else "left"
            table.add_column(name, ratio=ratio, no_wrap=True, overflow="ellipsis", justify=align)
        table.add_column("age", width=6, justify="right")
        table.add_column("trend", width=TREND)
        for (device, point), row in list(self._rows.items())[:room]:
            table.add_row(*self._cells(device, point, row))
        more = len(self._rows) - room
        rest = Text(f"and {more} more points: name the devices that you want to see", "dim") if more > 0 else Text("")
        return Group(table, rest, *footer)

    def _cells(self, device: str, point: str, row: Row) -> list[Text]:
        from rich.text import Text

        style = style_of(row.quality)
        age = f"{self._now() - row.at:.1f}s"
        texts = (device, point, value_text(row.value), unit_text(row.unit), row.quality, age)
        cells = [Text(text, "" if style == "green" else style) for text in texts]
        return [*cells, Text(curve(row.trend), "cyan")]

    def _bus_line(self, bus: Mapping[str, Any]) -> Text:
        from rich.text import Text

        line = Text(f"{bus['bus']}  ")
        if bus["fault"]:
            return line.append(bus["fault"], "red")
        line.append(f"load {min(bus['load'], 1.0):.0%}  ")
        if bus["dead"]:
            line.append(f"dead: {', '.join(bus['dead'])}  ", "bold red")
        for cause in bus["trouble"]:
            line.append(f"{cause['text']}: {cause['advice']}  ", "yellow")
        return line


def curve(values: Sequence[float]) -> str:
    """Draw numbers as a line of small bars between their least and greatest."""
    if not values:
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(BARS[round((value - low) / span * (len(BARS) - 1))] for value in values)
