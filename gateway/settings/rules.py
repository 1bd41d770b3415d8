"""What must hold between the tables of a site file.

The rules read the raw document and skip what has the wrong form, so that one mistake never hides another.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from drivers import DRIVERS
from gateway.errors import ConfigError, Problem
from gateway.settings.document import Document
from gateway.settings.explain import nearest
from gateway.settings.lines import Place
from gateway.settings.points import point_problems, range_problem
from gateway.settings.profile import Catalogue, Profile
from gateway.settings.quantities import Wrong, broker, is_plain_remote, size
from gateway.settings.tables import PointTable

Raw = dict[str, Any]

SERIAL_UNITS = range(1, 248)
"""Unit ids on a line: 0 is everybody, 248 to 255 are reserved (Modbus over serial line 1.02, 2.2)."""
TCP_UNITS = range(256)
"""Unit ids on Modbus TCP: 0 and 255 mean the device itself (Modbus messaging on TCP/IP 1.0b, 4.4.2.1)."""


def rules(document: Document, catalogue: Catalogue) -> Iterator[Problem]:
    """Yield every broken rule of the site file."""
    yield from _uplink(document)
    yield from _store(document)
    yield from _unique(document, [("bus", index) for index, _ in document.tables(("bus",))], "bus")
    yield from _ports(document)
    devices: list[Place] = []
    for index, bus in document.tables(("bus",)):
        place: Place = ("bus", index)
        yield from _wire(document, place, bus)
        yield from _addresses(document, place, bus)
        for number, device in document.tables((*place, "device")):
            devices.append((*place, "device", number))
            yield from _device(document, devices[-1], device, catalogue)
    yield from _unique(document, devices, "device")


def _at(document: Document, place: Place) -> Any:
    value: Any = document.data
    for step in place:
        value = value[step]
    return value


def _uplink(document: Document) -> Iterator[Problem]:
    uplink = document.table("uplink")
    brokers = uplink.get("brokers")
    for index, url in enumerate(brokers if isinstance(brokers, list) else ()):
        if uplink.get("insecure") is not True and _is_valid_broker(url) and is_plain_remote(url):
            yield document.problem(
                ("uplink", "brokers", index),
                "sends readings without encryption over a network",
                'write "mqtts://..." (port 8883), or insecure = true when you really want this',
            )
    pairs = (
        ("username", "password_file", "a user name needs a password file"),
        ("password_file", "username", "a password needs a user name"),
        ("cert", "key", "a certificate needs its private key"),
        ("key", "cert", "a private key needs its certificate"),
    )
    for given, needed, text in pairs:
        if uplink.get(given) and not uplink.get(needed):
            yield document.problem(("uplink", given), text, f'add {needed} = "..." or remove {given}')


def _is_valid_broker(url: object) -> bool:
    try:
        return isinstance(url, str) and bool(broker(url))
    except Wrong:
        return False


def _store(document: Document) -> Iterator[Problem]:
    store = document.table("store")
    try:
        kept = size(store.get("keep_acked", "0"), 0, 10**12)
        whole = size(store.get("max_size", "512MB"), 0, 10**12)
    except Wrong:
        return
    if kept > whole:
        yield document.problem(
            ("store", "keep_acked"),
            "is more than max_size, of which it is a part",
            "make it smaller, or raise max_size",
        )


def _unique(document: Document, places: list[Place], what: str) -> Iterator[Problem]:
    seen: dict[str, Place] = {}
    for place in places:
        name = _at(document, place).get("name")
        if not isinstance(name, str):
            continue
        here = (*place, "name")
        if name in seen:
            why = ", because device names stand in topics" if what == "device" else ""
            yield document.problem(
                here,
                f'two {"buses" if what == "bus" else "devices"} are called "{name}": '
                f"line {document.line(seen[name])} and line {document.line(here)}",
                f"give each {what} of this gateway a name of its own{why}",
            )
        seen.setdefault(name, here)


def _ports(document: Document) -> Iterator[Problem]:
    seen: dict[tuple[object, ...], Place] = {}
    for index, bus in document.tables(("bus",)):
        for key in ("serial", "tcp"):
            port = _port(key, bus.get(key))
            place: Place = ("bus", index, key, "port" if key == "serial" else "host")
            if port and port in seen:
                other = seen[port]
                yield document.problem(
                    place,
                    f"two buses use one port: {_named(document, other[:2])} and {_named(document, place[:2])}",
                    "put all devices of one line under one [[bus]]",
                )
            elif port:
                seen[port] = place


def _port(key: str, value: object) -> tuple[object, ...]:
    """What makes two ports the same one; empty when the table is not in order."""
    if not isinstance(value, dict):
        return ()
    if key == "tcp":
        host, number = value.get("host"), value.get("port", 502)
        return (host.lower(), number) if isinstance(host, str) and host and isinstance(number, int) else ()
    path = value.get("port")
    if not isinstance(path, str) or not path.startswith("/") or "\0" in path:
        return ()
    return (os.path.realpath(path),)


def _named(document: Document, place: Place) -> str:
    """A bus or device as people find it: meter-1 (line 12)."""
    table = _at(document, place)
    line = document.line((*place, "name") if "name" in table else place)
    return f"{table.get('name', 'one without name')} (line {line})"


def _wire(document: Document, place: Place, bus: Raw) -> Iterator[Problem]:
    """Serial or TCP, and the framing that fits."""
    ports = [key for key in ("serial", "tcp") if key in bus]
    if len(ports) != 1:
        text = "has both serial and tcp" if ports else "has neither serial nor tcp"
        yield document.problem(
            place, text, 'write serial = { port = "/dev/...", baud = 9600, format = "8N1" } or tcp = { host = "..." }'
        )
        return
    wire = bus[ports[0]] if isinstance(bus[ports[0]], dict) else {}
    if "framing" in bus and "framing" in wire:
        yield document.problem((*place, "framing"), f"stands here and in {ports[0]}", "remove one of the two")
    if ports == ["serial"] and bus.get("framing") == "tcp":
        yield document.problem(
            (*place, "framing"), 'is "tcp" on a serial port', 'a serial port speaks "rtu" (usual) or "ascii"'
        )
    bits = str(wire.get("format", ""))[:1]
    if framing_of(bus) == "rtu" and bits in {"5", "6", "7"}:
        yield document.problem(
            (*place, "serial", "format"), f"has {bits} data bits, but Modbus RTU needs 8", 'write e.g. "8N1"'
        )


def framing_of(bus: Raw) -> str:
    """Return the framing that a bus ends up with: written on the bus or in its port, or the usual one."""
    for key, usual in (("serial", "rtu"), ("tcp", "tcp")):
        if isinstance(wire := bus.get(key), dict):
            return str(bus.get("framing") or wire.get("framing") or usual)
    return "rtu"


def _addresses(document: Document, place: Place, bus: Raw) -> Iterator[Problem]:
    on_tcp = framing_of(bus) == "tcp"
    units = TCP_UNITS if on_tcp else SERIAL_UNITS
    seen: dict[int, Place] = {}
    for index, device in document.tables((*place, "device")):
        address = device.get("address")
        if not isinstance(address, int) or isinstance(address, bool):
            continue
        here: Place = (*place, "device", index)
        if address not in units:
            wire = "Modbus TCP" if on_tcp else "a Modbus line"
            yield document.problem(
                (*here, "address"),
                f"is outside {units.start} to {units.stop - 1}, the addresses on {wire}: {address}",
                "look at the display or the switches of the device"
                if address
                else "0 would speak to all devices at once",
            )
        if address in seen:
            yield document.problem(
                (*here, "address"),
                f"two devices on bus {bus.get('name', place[1])} have address {address}: "
                f"{_named(document, seen[address])} and {_named(document, here)}",
                "give one of them another address, at the device and here",
            )
        seen.setdefault(address, here)


def _device(document: Document, place: Place, device: Raw, catalogue: Catalogue) -> Iterator[Problem]:
    profile_name, driver = device.get("profile"), device.get("driver")
    if bool(profile_name) == bool(driver):
        text = "has both profile and driver" if driver else "has neither profile nor driver"
        yield document.problem(
            place, text, 'write profile = "..." for a known device type, or driver = "modbus" and [[bus.device.point]]'
        )
    if isinstance(driver, str) and driver and driver not in DRIVERS:
        yield document.problem((*place, "driver"), f'is not known: "{driver}"', _choice(driver, list(DRIVERS)))
    profile = None
    if isinstance(profile_name, str) and profile_name:
        try:
            profile = catalogue.get(profile_name)
        except KeyError:
            yield document.problem(
                (*place, "profile"), f'there is no profile "{profile_name}"', _choice(profile_name, catalogue.names())
            )
        except ConfigError as error:
            yield document.problem((*place, "profile"), f'the profile "{profile_name}" has mistakes', "see below")
            yield from error.problems
    known = profile is not None or not profile_name
    yield from _points(document, place, device, profile, complete=known)


def _choice(word: str, known: list[str]) -> str:
    return f"{nearest(word, known)} known: {', '.join(known)}".strip()


def _points(
    document: Document, place: Place, device: Raw, profile: Profile | None, *, complete: bool
) -> Iterator[Problem]:
    """The points written here, and what is overridden. `complete`: all names of points are known."""
    given = profile.points if profile else {}
    yield from point_problems(document, (*place, "point"), device.get("point"))
    written: set[str] = set()
    for index, point in document.tables((*place, "point")):
        name = point.get("name")
        if isinstance(name, str) and name in given:
            yield document.problem(
                (*place, "point", index, "name"),
                f'the profile has a point "{name}" already',
                f"change that one with points.{name} = {{ ... }}, or choose another name",
            )
        if isinstance(name, str):
            written.add(name)
    overrides = device.get("points")
    off = set()
    for name, override in overrides.items() if isinstance(overrides, dict) else ():
        here: Place = (*place, "points", name)
        if name in written:
            yield document.problem(
                here, f'the point "{name}" is written here, not in a profile', "change it where it is written"
            )
        elif name not in given and complete:
            yield document.problem(here, f'this device has no point "{name}"', _choice(name, list(given)))
        elif name in given and isinstance(override, dict):
            yield from _override(document, here, override, given[name])
            off |= {name} if override.get("enabled") is False else set()
    if complete and not written and not set(given) - off:
        yield document.problem(
            place,
            "has all its points switched off" if given else "has no point to read",
            "remove the device, or switch a point on" if given else "add [[bus.device.point]], or a profile",
        )


def _override(document: Document, place: Place, override: Raw, point: PointTable) -> Iterator[Problem]:
    low, high = override.get("low", point.low), override.get("high", point.high)
    yield from range_problem(document, place, low, high)
    if override.get("writable") is True and not point.writable:
        yield document.problem(
            (*place, "writable"), "the profile does not allow writing this point", "remove writable = true"
        )
