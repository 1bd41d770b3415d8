"""What a demo shows: a live view on a terminal, plain lines elsewhere, a verdict at the end."""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gateway.clock import Clock
from gateway.model import Bus, Device, Site

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from gateway.cli.demo_parts import Referee

FRAME = 0.25
LINE_EVERY = 2.0
SHOWN_POINTS = 4
PICTURE_WIDTH = 112
BARS = " ▁▂▃▄▅▆▇█"
DEPTHS = 60
"""Depths of the store that the small curve shows, one a second."""


class View(Protocol):
    """Shows a running demo."""

    async def run(self) -> None: ...

    def show_verdict(self, verdict: dict[str, Any]) -> None: ...


def view_of(site: Site, args: argparse.Namespace, referee: Referee, clock: Clock) -> View:
    """A live view for eyes, lines for logs and pipes."""
    if (sys.stdout.isatty() and not args.json) or args.picture:
        return LiveView(site, referee, clock, args.picture)
    return Lines(referee, args.json)


class Lines:
    """One line every two seconds; on stderr when stdout is for machines."""

    def __init__(self, referee: Referee, for_machines: bool) -> None:
        self._referee = referee
        self._out = sys.stderr if for_machines else sys.stdout

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LINE_EVERY)
            state = self._referee
            broker = "up" if state.broker_is_up else "AWAY"
            loads = ", ".join(f"{name} {bus['load']:.0%}" for name, bus in state.buses.items())
            print(
                f"received {state.received} readings ({state.rate():.0f}/s), broker {broker}, "
                f"waiting in the store {state.pending}, bus load {loads or '-'}, wrong values {state.wrong}",
                file=self._out,
                flush=True,
            )

    def show_verdict(self, verdict: dict[str, Any]) -> None:
        for line in verdict_lines(verdict):
            print(line)


class LiveView:
    """Tables that move."""

    def __init__(self, site: Site, referee: Referee, clock: Clock, picture: Path | None) -> None:
        from rich.console import Console

        self._site = site
        self._referee = referee
        self._clock = clock
        self._picture = picture
        self._console = Console()
        self._depths: deque[int] = deque(maxlen=DEPTHS)

    async def run(self) -> None:
        from rich.live import Live

        ticks = 0
        with Live(console=self._console, auto_refresh=False) as live:
            while True:
                if ticks % round(1 / FRAME) == 0:
                    self._depths.append(self._referee.pending)
                live.update(self._draw(), refresh=True)
                ticks += 1
                await asyncio.sleep(FRAME)

    def show_verdict(self, verdict: dict[str, Any]) -> None:
        if self._picture is not None:
            self._save(self._picture)
        for line in verdict_lines(verdict):
            self._console.print(line, highlight=False)

    def _save(self, picture: Path) -> None:
        from io import StringIO

        from rich.console import Console

        paper = Console(record=True, width=PICTURE_WIDTH, file=StringIO(), force_terminal=True)
        paper.print(self._draw())
        # Without the web fonts that rich would fetch: a picture must not depend on a network.
        picture.write_text(re.sub(r"@font-face \{.*?\}", "", paper.export_svg(title="make demo"), flags=re.DOTALL))

    def _draw(self) -> RenderableType:
        from rich.console import Group
        from rich.panel import Panel

        buses = [self._bus_table(bus) for bus in self._site.buses]
        return Panel(
            Group(self._uplink_line(), *buses),
            title=f"{self._site.gateway} · {self._site.site} · what the IOC receives",
            subtitle="Ctrl-C ends",
            padding=(0, 1),
        )

    def _uplink_line(self) -> RenderableType:
        from rich.text import Text

        state = self._referee
        line = Text()
        line.append("broker ")
        line.append("up" if state.broker_is_up else "AWAY", "bold green" if state.broker_is_up else "bold red")
        line.append(f"   received {state.received} ({state.rate():.0f}/s)   ")
        line.append(f"wrong {state.wrong}", "bold red" if state.wrong else "green")
        line.append(f"   missing {state.missing()}   duplicates {state.duplicates()}\n")
        line.append(f"waiting in the store {state.pending:>5} ", "" if state.broker_is_up else "bold yellow")
        top = max(*self._depths, 1) if self._depths else 1
        line.append("".join(BARS[round(depth / top * (len(BARS) - 1))] for depth in self._depths), "yellow")
        return line

    def _bus_table(self, bus: Bus) -> Table:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        health = self._referee.buses.get(bus.name, {})
        load = health.get("load", 0.0)
        filled = round(min(load, 1.0) * 20)
        bar = "█" * filled + "░" * (20 - filled)
        table = Table(title=f"{bus.name}  load {bar} {load:.0%}", title_justify="left", expand=True, box=SIMPLE_HEAD)
        for name, ratio in (("device", 2), ("last values", 9), ("quality", 2)):
            table.add_column(name, ratio=ratio, no_wrap=True, overflow="ellipsis")
        for name in ("age", "per s"):
            table.add_column(name, justify="right", width=6)
        for device in bus.devices:
            table.add_row(*self._device_row(device))
        return table

    def _device_row(self, device: Device) -> tuple[str, str, str, str, str]:
        last = self._referee.last.get(device.name, {})
        if not last:
            return device.name, "[dim]waiting[/]", "", "", ""
        shown = [point for point in device.points if point.name in last][:SHOWN_POINTS]
        values = "  ".join(f"[dim]{point.name}[/] {text(last[point.name].value, point.unit)}" for point in shown)
        newest = max(reading.ts for reading in last.values())
        bad = sorted({reading.quality for reading in last.values() if reading.quality != "good"})
        quality = f"[red]{', '.join(bad)}[/]" if bad else "[green]good[/]"
        age = self._clock.wall() - newest / 1000
        return device.name, values, quality, f"{age:.1f} s", f"{self._referee.rate_of(device.name):.1f}"


def text(value: object, unit: str) -> str:
    """Write a value and its unit for a narrow column."""
    number = f"{value:.6g}" if isinstance(value, float) else "-" if value is None else str(value)
    return number if unit == "1" else f"{number} {unit}"


def verdict_lines(verdict: dict[str, Any]) -> list[str]:
    """Say in words what the demo has shown."""
    lost = verdict["missing"] or verdict["wrong_values"]
    count = (
        f"{verdict['readings_stored']} readings were stored, {verdict['readings_received']} reached the IOC: "
        f"{verdict['missing']} missing, {verdict['duplicates']} sent twice, {verdict['wrong_values']} wrong "
        f"of {verdict['values_checked']} compared with what the devices held."
    )
    lines = [count]
    if verdict["outage_s"]:
        lines.append(f"The broker was away for {verdict['outage_s']} s; the backlog took {verdict['drain_s']} s.")
    lines.append("This must not happen." if lost else "Nothing was lost, nothing was wrong.")
    return lines
