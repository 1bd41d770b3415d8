"""`gateway trace`: every request and answer on a line, while it happens."""

from __future__ import annotations

import argparse
import asyncio
import signal
from contextlib import ExitStack, aclosing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli import add_config

if TYPE_CHECKING:
    from gateway.cli.trace_view import Sink
    from gateway.model import Bus, Site

EXAMPLE = "gateway trace rs485-1 --seconds 60 --pcap line.pcapng"


def arguments(parser: argparse.ArgumentParser) -> None:
    from gateway.cli.ioc import positive
    from gateway.cli.reach import add_port
    from gateway.cli.watch import seconds

    add_config(parser)
    parser.add_argument("bus", metavar="BUS", help="a bus of the site file, a port (/dev/...) or HOST:PORT")
    parser.add_argument("--seconds", type=seconds, metavar="S", help="end by itself after so long (default: Ctrl-C)")
    parser.add_argument("--count", type=positive, metavar="N", help="end after so many exchanges")
    parser.add_argument("--raw", action="store_true", help="show the bytes, too")
    parser.add_argument("--pcap", type=Path, metavar="FILE", help="write a capture for Wireshark (pcapng)")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each exchange")
    add_port(parser)


def main(args: argparse.Namespace) -> int:
    from gateway.app import event_loop

    with asyncio.Runner(loop_factory=event_loop) as runner:
        return runner.run(_trace(args))


async def _trace(args: argparse.Namespace) -> int:
    """Show what comes until the time is over, enough was seen, or Ctrl-C: all are 0."""
    from gateway.cli.reach import place
    from gateway.cli.trace_view import CaptureFile, JsonLines, Lines

    site, bus = place(args.config, args.bus, args.baud, args.format, args.framing)
    with ExitStack() as stack:
        sinks: list[Sink] = [JsonLines() if args.json else Lines(raw=args.raw)]
        if args.pcap:
            sinks.append(stack.enter_context(CaptureFile(args.pcap)))
        task = asyncio.ensure_future(_follow(site, bus, sinks, args.count))
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        with suppress(TimeoutError, asyncio.CancelledError):
            async with asyncio.timeout(args.seconds):
                await task
    return 0


async def _follow(site: Site, bus: Bus, sinks: list[Sink], count: int | None) -> None:
    from gateway.cli.reach import reach

    seen = 0
    async with reach(site, poll=True) as ask, aclosing(ask({"do": "trace", "bus": bus.name})) as messages:
        async for message in messages:
            for sink in sinks:
                sink.begin(message) if "framing" in message else sink.take(message)
            seen += "ts" in message
            if seen == count:
                return
