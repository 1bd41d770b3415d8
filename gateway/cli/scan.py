"""`gateway scan`: who answers on a line, at which speed, and what it is. Never writes."""

from __future__ import annotations

import argparse
import asyncio
import signal
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from gateway.cli import add_config

if TYPE_CHECKING:
    from gateway.cli.scan_view import View
    from gateway.control.findings import Findings
    from gateway.model import Bus, Site

EXAMPLE = "gateway scan /dev/ttyUSB0 --units 1-20      or: gateway scan rs485-1      or: gateway scan 192.168.1.20:502"
FORMATS = ("8N1", "8E1", "8O1", "8N2", "8E2", "8O2")


def arguments(parser: argparse.ArgumentParser) -> None:
    from gateway.cli.reach import baud

    add_config(parser)
    parser.add_argument("bus", metavar="BUS", help="a bus of the site file, a port (/dev/...) or HOST:PORT")
    parser.add_argument("--baud", type=baud, metavar="N", help="try this speed only (default: all that are usual)")
    parser.add_argument("--format", choices=FORMATS, help="try this format only (default: all that are usual)")
    parser.add_argument("--units", metavar="UNITS", help="ask these only, e.g. 1-20,100 (default: all)")
    parser.add_argument("--framing", choices=("rtu", "ascii", "tcp"), help="default: rtu on a line, tcp on HOST:PORT")
    parser.add_argument(
        "--budget", type=budget, metavar="TIME", default=300.0, help="end after so long: 30s, 5m, 1h (default: 5m)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line, at the end the result")


def budget(text: str) -> float:
    """Read a duration, from a second to a day."""
    from gateway.settings.quantities import Wrong, duration

    try:
        return duration(text, 1.0, 86_400.0)
    except Wrong as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}; write 30s, 5m or 1h") from None


def main(args: argparse.Namespace) -> int:
    from gateway.app import event_loop

    with asyncio.Runner(loop_factory=event_loop) as runner:
        return runner.run(_scan(args))


async def _scan(args: argparse.Namespace) -> int:
    """Scan, and show what was found, also after Ctrl-C (130) or a lost port; 1 when nothing was."""
    from gateway.cli.reach import place
    from gateway.cli.scan_view import view_of
    from gateway.control.findings import Findings

    site, bus = place(args.config, args.bus, framing=args.framing)
    findings = Findings()
    view = view_of(as_json=args.json)
    task = asyncio.ensure_future(_follow(site, wish_of(args, bus), findings, view))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with view:
        await asyncio.wait([task])
    error = None if task.cancelled() else task.exception()
    if error is None or findings.found:
        stopped = task.cancelled() or error is not None
        view.finish(findings.result(bus, standing=bool(site.sha256), stopped=stopped))
    if error is not None:
        raise error
    return 130 if task.cancelled() else 0 if findings.found else 1


def wish_of(args: argparse.Namespace, bus: Bus) -> dict[str, Any]:
    """Return the request."""
    narrowed = {
        key: value for key in ("baud", "format", "units", "budget") if (value := getattr(args, key)) is not None
    }
    return {"do": "scan", "bus": bus.name, **narrowed}


async def _follow(site: Site, wish: dict[str, Any], findings: Findings, view: View) -> None:
    from gateway.cli.reach import reach

    async with reach(site) as ask, aclosing(ask(wish)) as messages:
        async for message in messages:
            findings.take(message)
            view.take(message)
