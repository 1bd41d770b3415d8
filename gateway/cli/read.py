"""`gateway read`: the points of a device now, or raw registers of any unit."""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

from gateway.cli import add_config

EXAMPLE = "gateway read meter-1 voltage_l1      or: gateway read /dev/ttyUSB0 --unit 5 --holding 0:10"

TABLES = {"holding": 125, "input": 125, "coil": 2000, "discrete": 2000}
"""Table -> how many of it one request reads."""


def arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument(
        "place", metavar="DEVICE|BUS", help="a device; with --unit a bus, a port (/dev/...) or HOST:PORT"
    )
    parser.add_argument("points", nargs="*", metavar="POINT", help="points of the device (default: all)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    raw = parser.add_argument_group("any unit of a bus, without a profile")
    raw.add_argument("--unit", type=unit, metavar="N", help="its unit id: 1..247, over TCP 0..255")
    what = raw.add_mutually_exclusive_group()
    for table, most in TABLES.items():
        noun = "bits" if table in ("coil", "discrete") else "registers"
        what.add_argument(
            f"--{table}", type=span(most), metavar="A:N", help=f"N {noun} from address A on (0-based; at most {most})"
        )
    what.add_argument("--identify", action="store_true", help="what the unit says of itself (function 43/14)")
    what.add_argument("--counters", action="store_true", help="what the unit counts (functions 7, 8 and 11)")
    from gateway.cli.reach import add_port

    add_port(parser)


def unit(text: str) -> int:
    """Read a unit id."""
    if not text.isdecimal() or int(text) > 255:
        raise argparse.ArgumentTypeError(f"{text!r} is not a unit id in 1..247 (over TCP 0..255)")
    return int(text)


def span(most: int) -> Any:
    """Return what reads A:N, first and count; A alone is one."""

    def parse(text: str) -> tuple[int, int]:
        first, colon, count = text.partition(":")
        if not first.isdecimal() or (colon and not count.isdecimal()):
            raise argparse.ArgumentTypeError(f"{text!r} is not A:N, e.g. 0:10 for ten from address 0 on")
        at, many = int(first), int(count or 1)
        if not 1 <= many <= most:
            raise argparse.ArgumentTypeError(f"{many} at once: the limit of the protocol is 1..{most}")
        if at + many > 65536:
            raise argparse.ArgumentTypeError(f"{text!r} reaches beyond the last address, 65535; addresses are 0-based")
        return at, many

    return parse


def main(args: argparse.Namespace) -> int:
    from gateway.app import event_loop

    with asyncio.Runner(loop_factory=event_loop) as runner:
        return runner.run(_foreign(args) if args.unit is not None else _device(args))


async def _device(args: argparse.Namespace) -> int:
    """Read points of a device; 1 when none is good."""
    from gateway.cli.reach import answer, reach
    from gateway.errors import Declined
    from gateway.settings import load

    options = ("holding", "input", "coil", "discrete", "identify", "counters", "baud", "format", "framing")
    if given := [name for name in options if getattr(args, name)]:
        raise Declined(f"--{given[0]} is for any unit of a bus: say which with --unit, e.g. --unit 1")
    if "/" in args.place or ":" in args.place:
        raise Declined(f"{args.place} is a port: say which unit on it with --unit, e.g. --unit 1 --holding 0:10")
    async with reach(load(args.config)) as ask:
        *points, end = await answer(ask, {"do": "read", "device": args.place, "points": args.points})
    if args.json:
        print(json.dumps({**end, "points": points}, ensure_ascii=False))
    else:
        from gateway.cli.read_view import show_points

        show_points(points, end)
    return 0 if any(point["quality"] == "good" for point in points) else 1


async def _foreign(args: argparse.Namespace) -> int:
    """Read raw registers of a unit, or what it tells of itself; 1 when it tells nothing."""
    from gateway.cli.reach import answer, place, reach
    from gateway.cli.read_view import decoded, show_raw, show_words
    from gateway.errors import Declined

    if args.points:
        raise Declined(f"{args.points[0]} is a point of a device; with --unit write addresses, e.g. --holding 0:10")
    what = request_of(args)
    site, bus = place(args.config, args.place, args.baud, args.format, args.framing)
    async with reach(site) as ask:
        (found,) = await answer(ask, {"do": "read", "bus": bus.name, "unit": args.unit, **what})
    if "data" in found:
        print(json.dumps(decoded(found))) if args.json else show_raw(found)
        return 0
    words: dict[str, Any] = found["identity"] if args.identify else found["counters"]
    if args.json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        show_words(found, words)
    return 0 if words else 1


def request_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return what of the unit is asked for."""
    from gateway.errors import Declined

    for table in TABLES:
        if (asked := getattr(args, table)) is not None:
            return {"table": table, "first": asked[0], "count": asked[1]}
    if args.identify or args.counters:
        return {"identify": args.identify, "counters": args.counters}
    raise Declined(f"what of unit {args.unit}? Say e.g. --holding 0:10; `gateway read --help` tells what else there is")
