"""How `gateway plan` shows its plan on a terminal: a table, a load bar and a timeline for each bus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

NAMES = 4
COLOURS = ("bright_yellow", "bright_cyan", "bright_magenta", "bright_green", "bright_blue", "bright_red")
"""Of the periods, the shortest first."""
BLOCKS = " ▁▂▃▄▅▆▇█"
"""A column by the share of its time that is in use."""


def show(plan: dict[str, Any]) -> None:
    """Draw every bus, and what the site does in all."""
    from rich.console import Console

    console = Console(highlight=False)
    for bus in plan["buses"]:
        _table(console, bus)
        _load(console, bus)
        _timeline(console, bus)
    console.print(f"{plan['readings_per_s']:.1f} readings per second (without asap points)")
    _outage(console, plan)


def _outage(console: Console, plan: dict[str, Any]) -> None:
    """How long the IOC may be away: the figure that a technician sets max_size by."""
    if plan["hours_offline"] is None:
        return
    counters = "" if plan["stored_per_s"] <= plan["readings_per_s"] else ", a counter being three values"
    console.print(
        f"an outage may last {hours_text(plan['hours_offline'])}: so long the store of {size_text(plan['max_size'])} "
        f"keeps what is read ({plan['stored_per_s']:.1f} values per second{counters})"
    )


def hours_text(hours: float) -> str:
    """Print a long time in hours, and in days when it has some."""
    if hours < 48:
        return f"{hours:.1f} hours" if hours < 10 else f"{hours:.0f} hours"
    days = hours / 24
    return f"{hours:.0f} hours ({days:.1f} days)" if days < 100 else f"{hours:.0f} hours ({days:.0f} days)"


def size_text(size: int) -> str:
    """Print bytes as the site file writes them."""
    for unit, bytes_ in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if size >= bytes_:
            return f"{size / bytes_:.3g} {unit}"
    return f"{size} B"


def period(every: float | None) -> str:
    """Print a period for people."""
    return "asap" if every is None else f"{every:g} s"


def names(points: list[str]) -> str:
    """Print the first few names."""
    return ", ".join(points[:NAMES]) + (f" and {len(points) - NAMES} more" if len(points) > NAMES else "")


def _table(console: Console, bus: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(title=f"bus {bus['name']}", title_justify="left", title_style="bold")
    for name in ("device", "every", "request", "points", "bytes", "ms"):
        table.add_column(name, justify="right" if name in ("bytes", "ms") else "left", overflow="fold")
    for request in bus["requests"]:
        cost = (str(request["bytes"]), f"{request['seconds'] * 1000:.1f}")
        table.add_row(request["device"], period(request["every_s"]), request["asks"], names(request["points"]), *cost)
    console.print(table)


def _load(console: Console, bus: dict[str, Any]) -> None:
    load = bus["utilisation"]
    filled = round(min(load, 1.0) * 40)
    rest = ", and asap points use the rest" if bus["best_effort"] else ""
    console.print(f"load {'█' * filled}{'░' * (40 - filled)} {load:.1%} of the time{rest}")
    spread = [phase for phase in bus["timeline"]["phases"] if phase["after_s"]]
    if spread:
        console.print(f"asked together they would take long, so {len(spread)} groups of points come later on the grid")
    if (missed := bus["timeline"]["missed"]) and load <= 1:
        over = bus["timeline"]["over_s"]
        console.print(f"[yellow]asap points have their share too:[/] {missed} readings are skipped in {over:.0f} s")
    if load > 1:
        console.print(
            f"[bold red]{bus['name']} would need {load:.0%} of its time:[/] readings will be skipped. "
            "Ask less often, raise the baud rate, or move devices to another bus. This would be enough:"
        )
        for one in bus["slower"]:
            console.print(
                f"  {one['device']}: {names(one['points'])}: every {period(one['proposed_s'])} "
                f"instead of {period(one['every_s'])} (takes {one['load']:.0%} of the line now)",
                markup=False,
            )


def _timeline(console: Console, bus: dict[str, Any]) -> None:
    """One row a device: each column is a moment, its height how much of it is in use, its colour the period."""
    from rich.text import Text

    line = bus["timeline"]
    if not line["requests"]:
        console.print()
        return
    room = max(len(name) for name in line["devices"])
    width = max(20, min(console.width, 160) - room - 3)
    periods = colours(line)
    for name in line["devices"]:
        row = [request for request in line["requests"] if request["device"] == name]
        console.print(Text.assemble((f"{name:>{room}} ", "bold"), "│", _row(row, line["seconds"], width, periods)))
    step = line["seconds"] / width
    ends = f"0 s{line['seconds']:>{width - 5}g} s"
    console.print(Text(f"{'':{room}} └{ends}", "dim"))
    legend = Text(f"{'':{room}}  ")
    for every, colour in periods.items():
        legend.append("█ ", colour).append(f"every {period(every)}   " if every is not None else "asap   ")
    legend.append(f"one column is {step * 1000:.0f} ms\n", "dim")
    console.print(legend)


def colours(line: dict[str, Any]) -> dict[float | None, str]:
    """Give every period its colour, the shortest first, asap the last."""
    periods = sorted({request["every_s"] for request in line["requests"]}, key=lambda every: (every is None, every))
    return {every: COLOURS[index % len(COLOURS)] for index, every in enumerate(periods)}


def _row(requests: list[dict[str, Any]], seconds: float, width: int, periods: dict[float | None, str]) -> Text:
    from rich.text import Text

    used = [0.0] * width
    styles = [""] * width
    step = seconds / width
    for request in requests:
        at, end = request["at"], request["at"] + request["seconds"]
        for column in range(int(at / step), min(int(end / step) + 1, width)):
            share = (min(end, (column + 1) * step) - max(at, column * step)) / step
            used[column] += max(share, 0.0)
            styles[column] = styles[column] or periods[request["every_s"]]
    row = Text()
    for share, style in zip(used, styles, strict=True):
        row.append(BLOCKS[min(len(BLOCKS) - 1, int(share * 8 + 0.999))] if style else " ", style)
    return row
