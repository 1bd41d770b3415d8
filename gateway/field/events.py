"""What a bus tells the city and the technician: one function per event. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drivers.base import BusError, NoReply
from gateway.model import event

Event = dict[str, Any]


def device_silent(bus: str, device: str, error: BusError) -> Event:
    silent = isinstance(error, NoReply)
    return event(
        "device-silent",
        f"{device} on {bus} does not answer" if silent else f"the answers of {device} on {bus} are not readable",
        bus=bus,
        device=device,
        cause="no power, wrong address, a broken wire, or another baud rate" if silent else str(error),
        advice="check the power of the device and its address; the others on the bus go on",
    )


def device_back(bus: str, device: str) -> Event:
    return event("device-silent", f"{device} on {bus} answers again", raised=False, bus=bus, device=device)


def device_firmware(bus: str, device: str, before: Mapping[str, str], now: Mapping[str, str]) -> Event:
    was, is_now = before.get("revision", "?"), now.get("revision", "?")
    return event(
        "device-firmware",
        f"{device} has another firmware: {was} before, {is_now} now",
        severity="info",
        bus=bus,
        device=device,
        data={"before": dict(before), "now": dict(now)},
    )


def device_swapped(bus: str, device: str, before: Mapping[str, str], now: Mapping[str, str]) -> Event:
    return event(
        "device-swapped",
        f"another device answers at the address of {device}: {' '.join(now.values())}",
        severity="alarm",
        bus=bus,
        device=device,
        cause="the device was replaced by another type, or two addresses were exchanged",
        advice="write the profile of the new device into the site file; until then its values are marked bad",
        data={"before": dict(before), "now": dict(now)},
    )


def device_itself(bus: str, device: str) -> Event:
    return event("device-swapped", f"{device} on {bus} is itself again", raised=False, bus=bus, device=device)


def port_lost(bus: str, text: str) -> Event:
    return event(
        "port-lost",
        f"the port of {bus} is not usable: {text}",
        bus=bus,
        cause="the adapter is unplugged, its cable or endpoint has failed, or a device holds the line",
        advice="the bus goes on by itself as soon as the port is back",
    )


def port_back(bus: str) -> Event:
    return event("port-lost", f"the port of {bus} is usable again", raised=False, bus=bus)
