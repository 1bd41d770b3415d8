"""What must hold between ports, framings and addresses. Reads the raw document, as all rules do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from gateway.errors import Problem
from gateway.settings.document import Document
from gateway.settings.lines import Place

Raw = dict[str, Any]

SERIAL_UNITS = range(1, 248)
"""Unit ids on a line: 0 is everybody, 248 to 255 are reserved (Modbus over serial line 1.02, 2.2)."""
TCP_UNITS = range(256)
"""Unit ids on Modbus TCP: 0 and 255 mean the device itself (Modbus messaging on TCP/IP 1.0b, 4.4.2.1)."""


def wires(document: Document) -> Iterator[Problem]:
    """Yield every broken rule of ports, framings and addresses."""
    yield from _ports(document)
    for index, bus in document.tables(("bus",)):
        yield from _wire(document, ("bus", index), bus)
        yield from _addresses(document, ("bus", index), bus)


def framing_of(bus: Raw) -> str:
    """Return the framing that a bus ends up with: written on the bus or in its port, or the usual one."""
    for key, usual in (("serial", "rtu"), ("tcp", "tcp")):
        if isinstance(wire := bus.get(key), dict):
            return str(bus.get("framing") or wire.get("framing") or usual)
    return "rtu"


def usual_port(tls: object) -> int:
    """Return the TCP port of Modbus, without or with TLS."""
    return 502 if tls is None else 802


def _ports(document: Document) -> Iterator[Problem]:
    seen: dict[tuple[object, ...], Place] = {}
    for index, bus in document.tables(("bus",)):
        for key in ("serial", "tcp"):
            port = _port(key, bus.get(key))
            place: Place = ("bus", index, key, "port" if key == "serial" else "host")
            if port and port in seen:
                what, why = ("port", "line") if key == "serial" else ("TCP endpoint", "connection per endpoint")
                yield document.problem(
                    place,
                    f"two buses use one {what}: {_named(document, seen[port][:2])} and {_named(document, place[:2])}",
                    f"one {why}: put its devices under one [[bus]]",
                )
            elif port:
                seen[port] = place


def _port(key: str, value: object) -> tuple[object, ...]:
    """What makes two ports the same one by name; empty when the table is not in order."""
    if not isinstance(value, dict):
        return ()
    if key == "tcp":
        host, number = value.get("host"), value.get("port", usual_port(value.get("tls")))
        return (host.lower(), number) if isinstance(host, str) and host and isinstance(number, int) else ()
    path = value.get("port")
    if not isinstance(path, str) or not path.startswith("/") or "\0" in path:
        return ()
    return (os.path.normpath(path),)


def _named(document: Document, place: Place) -> str:
    """A bus or device as people find it: meter-1 (line 12)."""
    table = document.at(place)
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
    if "tls" in wire and framing_of(bus) != "tcp":
        framing: Place = (*place, "framing") if "framing" in bus else (*place, "tcp", "framing")
        yield document.problem(
            framing, "is not the framing of Modbus with TLS", 'write framing = "tcp", or remove it, or remove tls'
        )
    bits = str(wire.get("format", ""))[:1]
    if framing_of(bus) == "rtu" and bits in {"5", "6", "7"}:
        yield document.problem(
            (*place, "serial", "format"), f"has {bits} data bits, but Modbus RTU needs 8", 'write e.g. "8N1"'
        )


def _addresses(document: Document, place: Place, bus: Raw) -> Iterator[Problem]:
    on_tcp = framing_of(bus) == "tcp"
    units = TCP_UNITS if on_tcp else SERIAL_UNITS
    seen: dict[int, Place] = {}
    for index, device in document.tables((*place, "device")):
        address = device.get("address")
        if not isinstance(address, int) or isinstance(address, bool):
            continue
        here: Place = (*place, "device", index)
        if address and address not in units:  # 0 on a line may be right: that depends on the points
            wire = "Modbus TCP" if on_tcp else "a Modbus line"
            yield document.problem(
                (*here, "address"),
                f"is outside {units.start} to {units.stop - 1}, the addresses on {wire}: {address}",
                "look at the display or the switches of the device",
            )
        if address in seen:
            yield document.problem(
                (*here, "address"),
                f"two devices on bus {bus.get('name', place[1])} have address {address}: "
                f"{_named(document, seen[address])} and {_named(document, here)}",
                "give one of them another address, at the device and here",
            )
        seen.setdefault(address, here)
