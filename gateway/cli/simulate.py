"""`gateway simulate`: field devices without a field."""

from __future__ import annotations

import argparse
import asyncio
import difflib
import json
import selectors
import signal
import sys
from typing import TYPE_CHECKING

from gateway.cli import add_config
from gateway.errors import GatewayError
from gateway.model import Bus, SerialPort, Site, StoreSettings, TcpPort, Uplink
from gateway.simulator import Simulator
from gateway.simulator.faults import check, listing, parse
from gateway.simulator.registers import where

if TYPE_CHECKING:
    from collections.abc import Callable

    from drivers.base import Point

EXAMPLE = "gateway simulate --profile eastron-sdm630 --address 1 --tcp 127.0.0.1:5020"

_TABLES = {"coil": "0", "discrete": "1", "input": "3", "holding": "4"}
_PARITY = {"N": "none", "E": "even", "O": "odd"}


def arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--profile", type=_profile, metavar="NAME", help="one device of this profile, no site file")
    parser.add_argument("--address", type=_number(1, 247), default=1, metavar="N", help="its unit id (default: 1)")
    port = parser.add_mutually_exclusive_group()
    port.add_argument("--tcp", type=_tcp, metavar="HOST:PORT", help="serve it on TCP (default: 127.0.0.1:5020)")
    port.add_argument("--serial", metavar="PATH", help="serve it on a simulated serial line with this path")
    parser.add_argument(
        "--baud", type=_number(300, 4_000_000), default=9600, metavar="N", help="its speed (default: 9600)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="another seed gives other values (default: 1)")
    parser.add_argument(
        "--fault",
        type=_fault,
        action="append",
        default=[],
        metavar="'NAME: FAULT'",
        help="a device or bus fails, e.g. 'meter-3: crc rate=0.02'; several work in order",
    )
    parser.add_argument("--faults", action="store_true", help="list all faults, and end")
    parser.add_argument("--json", action="store_true", help="print one JSON object a bus")


def _number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number in {low}..{high}")
        return int(text)

    return parse


def _tcp(text: str) -> TcpPort:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT; example: 127.0.0.1:5020")
    return TcpPort(host.strip("[]"), int(port))


def _profile(name: str) -> str:
    from gateway.settings import profile_names

    names = profile_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, 3) or names
        raise argparse.ArgumentTypeError(f"there is no profile {name!r}; did you mean {', '.join(near)}?")
    return name


def _fault(text: str) -> tuple[str, str]:
    name, colon, fault = text.partition(":")
    if not name.strip() or not colon:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME: FAULT; example: --fault 'meter-3: crc rate=0.02'")
    try:
        parse(fault)
    except GatewayError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return name.strip(), fault


def main(args: argparse.Namespace) -> int:
    if args.faults:
        width = max(len(form) for form, _ in listing())
        print("\n".join(f"{form:<{width}}  {text}" for form, text in listing()))
        return 0
    site = _site(args)
    faults: dict[str, list[str]] = {}
    for name, fault in args.fault:
        faults.setdefault(name, []).append(fault)
    try:
        for name, given in faults.items():
            check(site.buses, name, [parse(fault) for fault in given])
    except GatewayError as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 2
    # epoll rounds time-outs up to 1 ms, which is a character at 9600 baud; select counts in microseconds.
    loop = lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(_serve(site, Simulator(site, seed=args.seed, faults=faults), as_json=args.json))
    return 0


def _site(args: argparse.Namespace) -> Site:
    from gateway.settings import device_from_profile, load

    if args.profile is None:
        return load(args.config)
    port = SerialPort(args.serial, args.baud) if args.serial else args.tcp or TcpPort("127.0.0.1", 5020)
    name = "simulated"
    device = device_from_profile(args.profile, args.address, name)
    bus = Bus(name, port, "rtu" if args.serial else "tcp", (device,))
    return Site("simulator", "", "system", Uplink(()), StoreSettings(), (bus,))


async def _serve(site: Site, simulator: Simulator, *, as_json: bool) -> None:
    """Serve until SIGINT or SIGTERM."""
    serving = asyncio.create_task(simulator.run())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    ready = asyncio.create_task(simulator.ready.wait())
    await asyncio.wait({serving, ready}, return_when=asyncio.FIRST_COMPLETED)
    ready.cancel()
    if not serving.done():
        for bus in site.buses:
            print(_line(bus, simulator.addresses[bus.name], as_json=as_json), flush=True)
        if not as_json:
            print("Ctrl-C ends it.", flush=True)
    await asyncio.wait({serving})
    if not serving.cancelled():
        serving.result()


def _line(bus: Bus, address: str, *, as_json: bool) -> str:
    """One line about a bus: what it is, and how to read its first point."""
    units = [device.address for device in bus.devices]
    read = mbpoll(bus, address)
    if as_json:
        return json.dumps({"bus": bus.name, "address": address, "framing": bus.framing, "units": units, "read": read})
    speed = f" {bus.port.baud} {bus.port.format}" if isinstance(bus.port, SerialPort) else ""
    many = f"{len(units)} devices" if len(units) != 1 else "1 device"
    return f"{bus.name}: {many} on {address}{speed} ({bus.framing})" + (f"   read: {read}" if read else "")


def mbpoll(bus: Bus, address: str) -> str:
    """How to read the first point of a bus with mbpoll; empty when mbpoll does not speak the framing."""
    points = [(device.address, point) for device in bus.devices for point in device.points]
    serial = isinstance(bus.port, SerialPort)
    if not points or bus.framing != ("rtu" if serial else "tcp"):
        return ""
    unit, point = points[0]
    ask = f"mbpoll -1 -0 -a {unit} {_type(point)} -r {where(point).at}"
    if isinstance(bus.port, SerialPort):
        form = bus.port.format
        return f"{ask} -m rtu -b {bus.port.baud} -d {form[0]} -P {_PARITY[form[1]]} -s {form[2]} {address}"
    host, _, port = address.rpartition(":")
    return f"{ask} -p {port} {host}"


def _type(point: Point) -> str:
    at = where(point)
    form = {"f32": ":float", "u32": ":int", "s32": ":int"}.get(at.type, "")
    if form and at.order in ("", "ABCD"):
        return f"-t {_TABLES[at.table]}{form} -B"
    if form and at.order == "CDAB":
        return f"-t {_TABLES[at.table]}{form}"
    return f"-t {_TABLES[at.table]}" + (f" -c {at.count}" if at.count > 1 else "")
