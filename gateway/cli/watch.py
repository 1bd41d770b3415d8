"""`gateway watch`: the values of the devices as they come."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import signal
import sys
from typing import TYPE_CHECKING

from gateway.cli import add_config

if TYPE_CHECKING:
    from gateway.cli.reach import Ask
    from gateway.cli.watch_view import View

EXAMPLE = "gateway watch meter-1"
FRAME = 0.5


def arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("devices", nargs="*", metavar="DEVICE", help="devices (default: all)")
    parser.add_argument("--seconds", type=seconds, metavar="S", help="end by itself after so long (default: Ctrl-C)")
    parser.add_argument("--health", action="store_true", help="show how the devices answer, instead of their values")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line for each value that changes")


def seconds(text: str) -> float:
    """Read a positive number of seconds, at most a day."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds between 0 and 86400")
    return value


def main(args: argparse.Namespace) -> int:
    from gateway.app import event_loop

    with asyncio.Runner(loop_factory=event_loop) as runner:
        return runner.run(_watch(args))


async def _watch(args: argparse.Namespace) -> int:
    """Show what comes until the time is over or somebody has seen enough: both are 0."""
    from gateway.cli.reach import reach
    from gateway.cli.watch_view import Lines, LiveView
    from gateway.settings import load

    site = load(args.config)
    if args.health:
        from gateway.cli.watch_health import watch_health

        return await watch_health(site, args)
    view: View = Lines(args.json) if args.json or not sys.stdout.isatty() else LiveView()
    async with reach(site, poll=True) as ask:
        showing = asyncio.gather(_follow(ask, args.devices, view), _refresh(ask, args.devices, view))
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, showing.cancel)
        with view, contextlib.suppress(TimeoutError, asyncio.CancelledError):
            async with asyncio.timeout(args.seconds):
                await showing
    return 0


async def _follow(ask: Ask, devices: list[str], view: View) -> None:
    async with contextlib.aclosing(ask({"do": "watch", "devices": devices})) as messages:
        async for message in messages:
            view.take(message)


async def _refresh(ask: Ask, devices: list[str], view: View) -> None:
    """Let a live view age, and tell it how the buses are."""
    from gateway.cli.reach import answer

    while view.is_live:
        await asyncio.sleep(FRAME)
        view.refresh()
        if view.status_is_old():
            view.take_status(await answer(ask, {"do": "status", "devices": devices}))
