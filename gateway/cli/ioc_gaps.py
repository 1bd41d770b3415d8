"""`gateway ioc gaps`: listens for a while, then tells what is missing and what became of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import TYPE_CHECKING

from gateway.cli.ioc import follow, within
from gateway.cli.ioc_view import CLASSES, printable
from gateway.cli.progress import bar

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from gateway.ioc.gaps import Tally
    from gateway.ioc.receiver import Receiver
    from gateway.model import Ranges

RANGES = 3
MEANINGS = {
    "dropped": "The gateway gave these up; its events say why (store full, disk, damage).",
    "lost": "The broker had confirmed these, nobody got them, and the gateway has them no more. Let it keep them "
    '(keep_acked), or wait for the IOC (confirm = "ioc").',
    "on its way": "Nothing to do: young, or the gateway is offline or still sends its backlog, or was asked just now.",
    "unexplained": "Older than 30 s, and the gateway has said nothing about them. With --ask it is asked.",
    "unknown": "That run ended by a power cut or a kill. What came after this number and within the gateway's loss "
    "window, nobody knows.",
}


async def gaps(args: argparse.Namespace) -> int:
    """Print what became of every number that was heard of. 1: asking was not allowed."""
    receivers: list[Receiver] = []

    async def listen(receiver: Receiver) -> None:
        receivers[:] = [receiver]
        async with contextlib.aclosing(receiver.arrivals()) as arrivals:
            async for _ in arrivals:
                pass

    now = asyncio.get_running_loop().time
    began = now()
    with bar("listening", args.seconds) as advance:
        ticking = asyncio.create_task(_tick(advance))
        try:
            await within(args.seconds, follow(args, listen, ask=args.ask))
        finally:
            ticking.cancel()
    args.seconds = min(args.seconds, round(now() - began, 1))  # Ctrl-C may have come before
    tallies = [tally for receiver in receivers for tally in receiver.gaps.tallies()]
    if args.json:
        for tally in tallies:
            print(json.dumps(tally._asdict(), ensure_ascii=False))
    else:
        show(tallies, args)
    if any(receiver.refused for receiver in receivers):
        print(
            f"gateway: The broker does not let {args.username or 'this client'} write {args.prefix}/v1/+/dn/#: "
            "no gateway was asked. Let its administrator allow that, or use another user.",
            file=sys.stderr,
        )
        return 1
    return 0


async def _tick(advance: Callable[[float], None]) -> None:
    while True:
        await asyncio.sleep(1)
        advance(1)


def show(tallies: Sequence[Tally], args: argparse.Namespace) -> None:
    """A row for each stream that is not complete, what its columns mean, and a line about the rest."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    incomplete = [tally for tally in tallies if not tally.complete]
    if incomplete:
        table = Table(box=None, pad_edge=False)
        for name in ("gateway", "epoch", "stream", "highest", *(name for _, name in CLASSES), "unknown"):
            table.add_column(name, overflow="fold")
        for tally in incomplete:
            cells = [tally.gw, tally.epoch, tally.stream, str(tally.highest)]
            cells += [shortly(getattr(tally, field)) for field, _ in CLASSES]
            cells.append("" if tally.unknown_above is None else f"above {tally.unknown_above}")
            table.add_row(*(Text(printable(cell)) for cell in cells))
        console.print(table)
        present = {name for field, name in CLASSES for tally in incomplete if getattr(tally, field)}
        present |= {"unknown" for tally in incomplete if tally.unknown_above is not None}
        for name, text in MEANINGS.items():
            if name in present:
                console.print(f"{name}: {text}", markup=False)
    console.print(summary(tallies, len(incomplete), args), markup=False)


def shortly(ranges: Ranges) -> str:
    """How many numbers, and the first few of them: "7: 3-8, 11"."""
    from gateway.ioc.gaps import count

    if not ranges:
        return ""
    first = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges[:RANGES])
    return f"{count(ranges)}: {first}{', ...' if len(ranges) > RANGES else ''}"


def summary(tallies: Sequence[Tally], incomplete: int, args: argparse.Namespace) -> str:
    from gateway.ioc.gaps import count

    if not tallies:
        return (
            f"Nothing was heard in {args.seconds:g} s. Probably no gateway is connected to this broker, or its prefix "
            f"is not {args.prefix}. Look at `gateway check` on the gateway."
        )
    gateways, arrived = len({tally.gw for tally in tallies}), sum(count(tally.arrived) for tally in tallies)
    heard = f"{gateways} gateways, {len(tallies)} streams, {arrived} batches and events heard in {args.seconds:g} s"
    return f"{heard}: {f'{incomplete} streams are not complete' if incomplete else 'nothing is missing'}."
