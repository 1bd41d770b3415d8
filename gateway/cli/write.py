"""`gateway write`: set a point, once, and see whether the device holds it."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

from gateway.cli import add_config

if TYPE_CHECKING:
    from gateway.model import Site

EXAMPLE = "gateway write light-panel output_1_value on"


def arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("device", metavar="DEVICE", help="a device of the site file")
    parser.add_argument("point", metavar="POINT", help="a point that profile and site file allow to write")
    parser.add_argument("value", metavar="VALUE", help='a label ("on"), a number or a text')
    parser.add_argument("--yes", action="store_true", help="do not ask (for scripts)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def main(args: argparse.Namespace) -> int:
    from gateway.app import event_loop
    from gateway.settings import load

    site = load(args.config)
    request = {"do": "write", "device": args.device, "point": args.point, "value": args.value}
    with asyncio.Runner(loop_factory=event_loop) as runner:
        if not args.yes:  # the port is free while the person thinks
            there = runner.run(_ask(site, {**request, "dry": True}))
            if not _confirmed(there):
                print("nothing was written", file=sys.stderr)
                return 1
        done = runner.run(_ask(site, request))
    if args.json:
        print(json.dumps(done, ensure_ascii=False))
    else:
        _show(done)
    return 1 if done["holds"] is False else 0


async def _ask(site: Site, request: dict[str, Any]) -> dict[str, Any]:
    """Return the parts of the answer as one."""
    from gateway.cli.reach import answer, reach

    async with reach(site) as ask:
        parts = await answer(ask, request)
    return {key: value for part in parts for key, value in part.items()}


def _confirmed(there: dict[str, Any]) -> bool:
    """Ask the person at the terminal. Declined without one."""
    from gateway.errors import Declined

    if not sys.stdin.isatty():
        raise Declined("nobody is there to confirm: scripts say --yes. Nothing was written")
    print(f"{_place(there)}: {_before(there)} -> {_value(there['wanted'], there)}", file=sys.stderr)
    print("write? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().casefold() in ("y", "yes")


def _show(done: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    if done["broadcast"]:
        wanted = _value(done["wanted"], done)
        console.print(Text(f"{_place(done)}: {wanted} was sent to all devices of {done['bus']}; none of them answers"))
        return
    change = f"{_place(done)}: {_before(done)} -> {_held(done['after'], done)}"
    if done["holds"]:
        console.print(Text.assemble(change, (", the device holds it", "green")))
        return
    console.print(Text(change))
    print(
        f"gateway: {done['device']} accepted {_value(done['wanted'], done)} and does not hold it: it may be in local "
        "or manual mode, locked, or governed by another point; look at its display and its manual",
        file=sys.stderr,
    )


def _place(done: dict[str, Any]) -> str:
    return f"{done['device']} {done['point']}"


def _before(done: dict[str, Any]) -> str:
    return "all devices" if done["broadcast"] else _held(done["before"], done)


def _held(sample: dict[str, Any], done: dict[str, Any]) -> str:
    """Write what the device holds; the quality where there is no value."""
    return sample["quality"] if sample["value"] is None else _value(sample["value"], done)


def _value(value: object, done: dict[str, Any]) -> str:
    from gateway.cli.read_view import unit_text, value_text

    return f"{value_text(value)} {unit_text(done['unit'])}".strip()
