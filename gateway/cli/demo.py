"""`gateway demo`: a city quarter on this machine. Any site file will do: its ports and its broker are replaced.

The agent is the real one, in a process of its own, with a real store. This process plays the other parts: the field
devices, the IOC, and the referee who compares what the IOC received with what the devices held.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from gateway.app import event_loop
from gateway.cli import add_config
from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.model import Site

EXAMPLE = "gateway demo --config config/gateway.toml --seconds 30 --outage 10"
DRAIN_LIMIT = 60.0
"""Seconds that the end of a demo waits for the backlog to arrive."""
STOP_LIMIT = 15.0


def arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--seconds", type=seconds, metavar="S", help="end by itself after so long (default: Ctrl-C)")
    parser.add_argument("--outage", type=seconds, metavar="S", default=0.0, help="stop the broker for so long, midway")
    parser.add_argument("--broker", metavar="URL", help="use this broker, e.g. mqtt://127.0.0.1:1883, not the built-in")
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object; no live view")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="save the last view as an SVG picture")


def seconds(text: str) -> float:
    """Read a positive number of seconds, at most a day."""
    value = float(text)
    if not 0 < value <= 86400:
        raise argparse.ArgumentTypeError("give seconds between 0 and 86400")
    return value


def main(args: argparse.Namespace) -> int:
    if args.outage and args.broker:
        raise GatewayError("--outage needs the built-in broker: another program's broker is not ours to stop")
    if args.outage and not args.seconds:
        args.seconds = 3 * args.outage
    if args.outage and args.outage >= args.seconds:
        raise GatewayError("--outage must be shorter than --seconds")
    with asyncio.Runner(loop_factory=event_loop) as runner:
        return runner.run(demo(args))


async def demo(args: argparse.Namespace) -> int:
    """Build the quarter, watch it, take it down, judge it."""
    from gateway.cli.demo_parts import Agent, Broker, Referee
    from gateway.cli.demo_view import view_of
    from gateway.settings import load
    from gateway.settings.document import read
    from gateway.simulator import Simulator

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with tempfile.TemporaryDirectory(prefix="gateway-demo-") as name:
        folder = Path(name)
        share_profiles(load(args.config), folder / "store")
        broker = Broker(args.broker, folder)
        config = folder / "gateway.json"
        config.write_text(json.dumps(rehearsal(read(args.config).data, folder, broker.url)), encoding="utf-8")
        site = load(config)
        clock = Clock("system")
        simulator = Simulator(site, clock=clock)
        referee = Referee(site, simulator, clock)
        agent = Agent(config, folder)
        async with broker.running(), task(simulator.run()), task(referee.run()):
            await simulator.ready.wait()
            async with agent.running():
                view = view_of(site, args, referee, clock)
                async with task(view.run()):
                    outage = await act(args, stop, broker, referee, clock)
                    await referee.drained(DRAIN_LIMIT)
                await agent.stop(STOP_LIMIT)
                await referee.settled()
        verdict = referee.verdict(outage)
    print(agent.complaints(), end="", file=sys.stderr)
    if args.json:
        print(json.dumps(verdict))
    else:
        view.show_verdict(verdict)
    return 0 if verdict["missing"] == verdict["wrong_values"] == 0 < verdict["values_checked"] else 1


async def act(args: argparse.Namespace, stop: asyncio.Event, broker: Any, referee: Any, clock: Clock) -> float:
    """Let the time pass, with the outage in its middle; return how long the broker was away."""
    outage = 0.0
    if args.outage:
        await passed(stop, (args.seconds - args.outage) / 2)
        if not stop.is_set():
            began = clock.monotonic()
            await broker.stop()
            referee.broker_is_away()
            await passed(stop, args.outage)
            await broker.start()
            referee.broker_is_back()
            outage = clock.monotonic() - began
    await passed(stop, (args.seconds - args.outage) / (2 if args.outage else 1) if args.seconds else None)
    return outage


async def passed(stop: asyncio.Event, limit: float | None) -> None:
    """Return after so many seconds, or as soon as the user has had enough."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit):
            await stop.wait()


@contextlib.asynccontextmanager
async def task(coroutine: Any) -> AsyncIterator[None]:
    """Run something beside the block; its failure is the block's failure."""
    async with asyncio.TaskGroup() as group:
        running = group.create_task(coroutine)
        yield
        running.cancel()


def rehearsal(document: dict[str, Any], folder: Path, broker: str) -> dict[str, Any]:
    """Return the site file with simulated ports, this broker, and a store in `folder`."""
    rehearsed = dict(document)
    rehearsed["clock"] = {"trust": "system"}
    kept = {key: value for key, value in document.get("uplink", {}).items() if key in ("prefix", "format", "window")}
    # A broker that restarts has acknowledged messages that nobody received: only the IOC's own word counts here.
    rehearsed["uplink"] = {**kept, "brokers": [broker], "confirm": "ioc", "health_every": "1s"}
    rehearsed["store"] = {**document.get("store", {}), "path": str(folder / "store"), "max_size": "64MB"}
    rehearsed["bus"] = [simulated(bus, folder) for bus in document.get("bus", [])]
    return rehearsed


def share_profiles(site: Site, store: Path) -> None:
    """Let the rehearsed store show the profiles that the real one holds."""
    own = Path(site.store.path) / "profiles"
    if own.is_dir():
        store.mkdir()
        (store / "profiles").symlink_to(own)


def simulated(bus: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the bus with a port that exists only here."""
    if "serial" in bus:
        return {**bus, "serial": {**bus["serial"], "port": str(folder / f"tty-{bus.get('name', 'bus')}")}}
    if "tcp" in bus:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        return {**bus, "tcp": {**bus["tcp"], "host": "127.0.0.1", "port": port}}
    return bus
