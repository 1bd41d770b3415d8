"""`gateway ioc`: what the IOC receives, by network (`tail`) or on a stick (`read`), and what is missing (`gaps`)."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import secrets
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.errors import GatewayError, UplinkError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from gateway.cli.ioc_view import Printer
    from gateway.ioc.receiver import Arrival, Receiver
    from gateway.model import Reading, Uplink
    from gateway.uplink.mqtt import Session

EXAMPLE = "gateway ioc tail --broker mqtt://127.0.0.1:1883 --json --count 10"
READ_EXAMPLE = "gateway ioc read /media/usb/*.gwb --json"
RETRY_EVERY = 2.0
FOOT_EVERY = 1.0


def arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="ioc_verb", metavar="VERB", required=True)
    tail = verbs.add_parser("tail", help="print readings as they arrive", epilog=f"example: {EXAMPLE}")
    tail.add_argument("--json", action="store_true", help="one JSON object per reading and line")
    tail.add_argument("--count", type=positive, metavar="N", help="end after so many readings")
    tail.add_argument("--seconds", type=seconds, metavar="S", help="end after so long")
    tail.add_argument("--ack", action="store_true", help="acknowledge what was printed (gateways with confirm = ioc)")
    example = "example: gateway ioc gaps --broker mqtt://127.0.0.1:1883 --seconds 60 --ask"
    gaps = verbs.add_parser("gaps", help="listen, then tell what is missing and what became of it", epilog=example)
    gaps.add_argument("--json", action="store_true", help="one JSON object per gateway, epoch and stream, and line")
    gaps.add_argument(
        "--seconds", type=seconds, metavar="S", default=60.0, help="listen so long (default: %(default)g)"
    )
    gaps.add_argument("--ask", action="store_true", help="ask the gateways for what is missing for more than 30 s")
    text = "print the readings of files that `gateway store export` has written"
    read = verbs.add_parser("read", help=text, description=f"{text}.", epilog=f"example: {READ_EXAMPLE}")
    read.add_argument("files", nargs="+", type=Path, metavar="FILE", help="files; their births explain the readings")
    read.add_argument("--json", action="store_true", help="one JSON object per reading and line")
    for verb in (tail, gaps):
        add_broker(verb)


def add_broker(parser: argparse.ArgumentParser) -> None:
    """Where to listen, and as whom."""
    parser.add_argument("--broker", metavar="URL", default="mqtt://127.0.0.1:1883", help="default: %(default)s")
    parser.add_argument("--prefix", default="city", help="first level of the topics (default: %(default)s)")
    parser.add_argument("--gateway", metavar="ID", default="+", help="this gateway only (default: all)")
    parser.add_argument("--ca", default="", metavar="FILE", help="the authority that signed the broker's certificate")
    parser.add_argument("--cert", default="", metavar="FILE", help="client certificate")
    parser.add_argument("--key", default="", metavar="FILE", help="its key")
    parser.add_argument("--username", default="", metavar="NAME")
    parser.add_argument("--password-file", default="", metavar="FILE")


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("give a number from 1 on")
    return value


def seconds(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError("give a positive number of seconds")
    return value


def main(args: argparse.Namespace) -> int:
    if args.ioc_verb == "read":
        from gateway.cli.ioc_read import read

        return read(args)
    if args.ioc_verb == "gaps":
        from gateway.cli.ioc_gaps import gaps

        return asyncio.run(gaps(args))
    return asyncio.run(tail(args))


async def tail(args: argparse.Namespace) -> int:
    """Print until enough has arrived, the time is over, or Ctrl-C."""
    from gateway.cli.ioc_view import printer_of

    with printer_of(as_json=args.json) as printer:
        await within(args.seconds, follow(args, partial(show, printer=printer, count=args.count), ack=args.ack))
    return 0


async def within(time: float | None, work: Coroutine[None, None, None]) -> None:
    """Do it to its end, but no longer than that many seconds, nor beyond Ctrl-C."""
    task = asyncio.ensure_future(work)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    done, _ = await asyncio.wait([task], timeout=time)
    if not done:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def follow(
    args: argparse.Namespace, consume: Callable[[Receiver], Awaitable[None]], *, ack: bool = False, ask: bool = False
) -> None:
    """Receive; after a lost connection connect again. The first connection must succeed (UplinkError)."""
    from gateway.ioc.ledger import Ledger
    from gateway.ioc.receiver import Receiver
    from gateway.model import Uplink
    from gateway.uplink.mqtt import Session

    files = {"ca": args.ca, "cert": args.cert, "key": args.key, "password_file": args.password_file}
    access = Uplink((args.broker,), username=args.username, keepalive=30.0, **files)
    identifier = f"ioc-{args.ioc_verb}-{os.getpid()}-{secrets.token_hex(3)}"
    session = await Session.open(args.broker, access, identifier, expiry=0)
    ledger = Ledger(from_now=True)
    receiver = Receiver(session, args.prefix, ack=ack, ask=ask, gateway=args.gateway, ledger=ledger)
    while True:
        try:
            if await receiver.subscribe():
                raise GatewayError(
                    f"The broker does not let {args.username or 'this client'} read {args.prefix}/v1/#. "
                    "Let its administrator allow that, or use another user."
                )
            await consume(receiver)
            return
        except UplinkError as error:
            print(f"gateway: {error} Trying again.", file=sys.stderr)
        finally:
            await session.close()
        receiver.session = session = await reopen(args.broker, access, identifier)


async def reopen(broker: str, access: Uplink, identifier: str) -> Session:
    """Connect again, however long it takes."""
    from gateway.uplink.mqtt import Session

    while True:
        await asyncio.sleep(RETRY_EVERY)
        with contextlib.suppress(UplinkError):
            return await Session.open(broker, access, identifier, expiry=0)


async def show(receiver: Receiver, printer: Printer, count: int | None) -> None:
    """Print every reading that is new, and what is missing."""
    missing = asyncio.ensure_future(show_missing(receiver, printer))
    try:
        async with contextlib.aclosing(receiver.arrivals()) as arrivals:
            async for arrival in arrivals:
                for reading, unit in readings(receiver, arrival):
                    printer.show(reading, unit)
                    printer.shown += 1
                    if printer.shown == count:
                        printer.flush()
                        return
                printer.flush()
    finally:
        missing.cancel()


async def show_missing(receiver: Receiver, printer: Printer) -> None:
    while True:
        await asyncio.sleep(FOOT_EVERY)
        printer.foot(receiver.gaps.tallies(incomplete=True))


def readings(receiver: Receiver, arrival: Arrival) -> list[tuple[Reading, str | None]]:
    """The readings of an arrival with their units; none when it was there before."""
    message = arrival.message
    if message is None or not arrival.verdict:
        return []
    unit = receiver.catalogue.unit
    return [
        (reading, unit(reading.gw, reading.device, block.cfg, reading.point))
        for block in message.blocks
        for reading in message.readings_of(block)
    ]
