"""How `gateway scan` shows what it finds: JSON lines, plain lines, or a bar and a growing table on a terminal."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from rich.console import Console, RenderableType
    from rich.table import Table

    Message = Mapping[str, Any]

REFRESH = 8
"""Frames per second: a phone on a slow link shows no more."""


class View(Protocol):
    """Shows the messages of a scan, and its result."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def take(self, message: Message) -> None: ...

    def finish(self, result: Message) -> None: ...


def view_of(*, as_json: bool) -> View:
    if as_json:
        return JsonLines()
    return Live() if sys.stdout.isatty() else Lines()


class JsonLines:
    """One object a line."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def take(self, message: Message) -> None:
        if "done" not in message:
            print(json.dumps(message, ensure_ascii=False), flush=True)

    def finish(self, result: Message) -> None:
        print(json.dumps({"result": result}, ensure_ascii=False), flush=True)


class Lines:
    """One line for each find, for a pipe or a file."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console: Console = Console(highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def take(self, message: Message) -> None:
        from rich.text import Text

        if found := message.get("found"):
            self.console.print(Text("found " + ", ".join(filter(None, cells(found)))))
        elif note := message.get("note"):
            self.console.print(Text.assemble(("note: ", "yellow"), note))

    def finish(self, result: Message) -> None:
        show(self.console, result)


class Live(Lines):
    """A bar with the time that is left, and under it what was found so far."""

    def __init__(self) -> None:
        super().__init__()
        from rich.live import Live as Frame
        from rich.progress import BarColumn, Progress, TextColumn

        self._found: list[Message] = []
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[left]}"),
            expand=True,
        )
        self._task = self._bar.add_task("opening the port", total=None, left="")
        self._frame = Frame(console=self.console, get_renderable=self._draw, refresh_per_second=REFRESH, transient=True)

    def __enter__(self) -> Self:
        self._frame.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._frame.__exit__(*error)  # type: ignore[arg-type]

    def take(self, message: Message) -> None:
        if progress := message.get("progress"):
            self._bar.update(
                self._task,
                description=f"{progress['setting']}, unit {progress['unit']}",
                completed=progress["asked"],
                total=progress["of"],
                left=f"{minutes(progress['left_s'])} left",
            )
        elif "found" in message:
            self._found.append(message["found"])
        else:
            super().take(message)

    def _draw(self) -> RenderableType:
        from rich.console import Group

        return Group(self._bar, table(self._found)) if self._found else self._bar


def show(console: Console, result: Message) -> None:
    """Print the result: a table, what to look at, and lines for the site file."""
    from rich.text import Text

    found = result["found"]
    many = "1 device" if len(found) == 1 else f"{len(found)} devices" if found else "no device"
    of = f" of {result['asked'] + result['left']}" if result["left"] else ""
    head = f"{result['bus']}: {many} found, {result['asked']}{of} attempts"
    head += f" in {minutes(result['seconds'])}" if result["seconds"] else ""
    console.print(Text(head + (", stopped" if result["stopped"] else ""), "bold green" if found else "bold yellow"))
    if found:
        console.print(table(found))
    for hint in result["hints"]:
        console.print(Text.assemble(("  - ", "yellow"), hint))
    if result["stanza"]:
        console.print(Text("\nFor the site file (then `gateway check`):\n", "bold"))
        print(result["stanza"], end="", flush=True)


def table(found: Sequence[Message]) -> Table:
    from rich.table import Table
    from rich.text import Text

    drawn = Table(expand=False)
    for name, side in (
        ("setting", "left"),
        ("unit", "right"),
        ("answers in", "right"),
        ("it says", "left"),
        ("profile", "left"),
    ):
        drawn.add_column(name, justify=side, overflow="fold")  # type: ignore[arg-type]
    for one in sorted(found, key=lambda one: (one["baud"] or 0, one["format"] or "", one["unit"])):
        drawn.add_row(*(Text(cell) for cell in cells(one)))
    return drawn


def cells(one: Message) -> tuple[str, str, str, str, str]:
    """Setting, unit, time, what it says of itself, what it probably is."""
    setting = f"{one['baud']} {one['format']}" if one["baud"] else "-"
    ms = "" if one["ms"] is None else f"{one['ms']} ms"
    profiles = [candidate["profile"] for candidate in one["profiles"]]
    known = f"{one['known']} of the site file" if one["known"] else ""
    is_it = " or ".join(profiles[:3]) or ("unknown" if not known else "")
    twice = "two devices with this address?" if one["shared"] else ""
    return setting, f"unit {one['unit']}", ms, one["what"], ", ".join(filter(None, (known, is_it, twice)))


def minutes(seconds: float) -> str:
    """Print a time for people: 42 s, 3:05 min."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{int(seconds // 60)}:{int(seconds % 60):02d} min"
