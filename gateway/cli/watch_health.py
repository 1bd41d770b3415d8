"""`gateway watch --health`: how each device answers: response times, and every kind of trouble."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gateway.cli.reach import answer, reach
from gateway.cli.watch_view import BARS
from gateway.field.diagnosis import BOUNDS_MS, KINDS
from gateway.model import Site

if TYPE_CHECKING:
    from rich.console import RenderableType

EVERY = 1.0
Message = Mapping[str, Any]


async def watch_health(site: Site, args: argparse.Namespace) -> int:
    """Show it until the time is over or somebody has seen enough; where nobody looks on, print it once at the end."""
    last: list[Message] = []
    async with reach(site, poll=True) as ask:
        looking = asyncio.ensure_future(_look(ask, args, last))
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, looking.cancel)
        with contextlib.suppress(TimeoutError, asyncio.CancelledError):
            async with asyncio.timeout(args.seconds):
                await looking
    if args.json:
        for message in last:
            print(json.dumps(message, ensure_ascii=False))
    elif not sys.stdout.isatty():
        from rich.console import Console

        Console(highlight=False, width=120).print(drawn(last))
    return 0


async def _look(ask: Any, args: argparse.Namespace, last: list[Message]) -> None:
    from rich.console import Console
    from rich.live import Live

    silent = args.json or not sys.stdout.isatty()
    with Live(console=Console(highlight=False, quiet=silent), auto_refresh=False) as live:
        while True:
            status = await answer(ask, {"do": "status"})
            last[:] = [one for one in status if not args.devices or one.get("device") in args.devices]
            live.update(drawn(last), refresh=True)
            await asyncio.sleep(EVERY)


def drawn(status: Sequence[Message]) -> RenderableType:
    """One row a device, the histogram of its response times as a curve."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in ("device", "state", "asked", "answered", "p50", "p99", f"1 ms .. {BOUNDS_MS[-1] // 1000} s", "trouble"):
        table.add_column(name, justify="right" if name in ("asked", "answered", "p50", "p99") else "left")
    for one in status:
        if "device" in one:
            share = f"{one['answers'] / one['exchanges']:.1%}" if one["exchanges"] else ""
            times = [f"{one[key]} ms" if one[key] is not None else "" for key in ("p50_ms", "p99_ms")]
            state = Text("dead", "bold red") if one["dead"] else Text("answers" if one["answers"] else "not yet asked")
            cells = (str(one["exchanges"]), share, *times, curve(one["histogram"]), trouble(one))
            table.add_row(one["device"], state, *cells)
    return table


def curve(histogram: Sequence[int]) -> str:
    """Draw counts as small bars; a count that is not zero is always seen."""
    most = max(histogram, default=0)
    return "".join(BARS[max(1, round(count / most * (len(BARS) - 1)))] if count else " " for count in histogram)


def trouble(one: Message) -> str:
    """Name the kinds of trouble a device had, and how often."""
    kinds = [f"{one[kind]} {kind}" for kind in KINDS if one.get(kind)]
    return ", ".join(kinds + [f"{times} exception {code}" for code, times in one.get("exceptions", {}).items()])
