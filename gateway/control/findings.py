"""What a scan has to say at the end: the finds, what was not asked, hints, and lines for the site file. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from drivers.base import Line
from gateway.control.attempts import Attempt
from gateway.control.stanza import Found, stanza
from gateway.model import Bus, SerialPort

SKIPPED = 6
"""Settings that are named; the others are counted."""


@dataclass(slots=True)
class Tally:
    """What a scan did: units that were asked and that were left, seconds, settings that failed, units without sense."""

    asked: int = 0
    left: int = 0
    seconds: float = 0.0
    skipped: list[str] = field(default_factory=list)
    """Settings that the port cannot do."""
    garbled: dict[str, int] = field(default_factory=dict)
    """Settings at which something came that cannot be read, and the unit that was asked."""
    mangled: list[int] = field(default_factory=list)
    """Units whose answers came mangled at the right speed."""


def find(
    bus: Bus,
    attempt: Attempt,
    identified: tuple[Mapping[str, str], str],
    profiles: Sequence[Mapping[str, Any]],
    *,
    ms: int | None,
    exception: int | None = None,
    shared: bool = False,
) -> dict[str, Any]:
    """Return the message about a device that answers; `identified`: its words by functions 43 and 17."""
    line, unit = attempt
    told, server = identified
    return {
        "unit": unit,
        "baud": line.baud if line else None,
        "format": line.format if line else None,
        "known": next((device.name for device in bus.devices if device.address == unit), ""),
        "ms": ms,
        "exception": exception,
        "identity": told,
        "server_id": server,
        "what": " ".join(told[key] for key in ("vendor", "product", "revision") if key in told) or server,
        "profiles": profiles,
        "shared": shared,
    }


class Findings:
    """What a scan has told so far: it may be stopped at any time, and what was found until then counts."""

    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = []
        self.tally = Tally()

    def take(self, message: Mapping[str, Any]) -> None:
        """Take over a message of `scan`."""
        if "found" in message:
            self.found.append(message["found"])
        elif "progress" in message:
            self.tally.asked = message["progress"]["asked"]
            self.tally.left = message["progress"]["of"] - self.tally.asked
        elif "done" in message:
            self.tally = Tally(**message["done"])

    def result(self, bus: Bus, *, standing: bool, stopped: bool = False) -> dict[str, Any]:
        """Return all of it, with hints and lines for the site file.

        `standing`: the bus stands in it already. `stopped`: somebody did not wait for the end, so it says less.
        """
        return {
            "bus": bus.name,
            **asdict(self.tally),
            "seconds": round(self.tally.seconds, 1),
            "stopped": stopped,
            "found": self.found,
            "hints": [] if stopped else hints(bus, self.found, self.tally),
            "stanza": stanza(bus, self.found, standing=standing),
        }


def hints(bus: Bus, found: Sequence[Found], tally: Tally) -> list[str]:
    """Say what to look at next."""
    told = []
    if tally.skipped:
        more = f" and {len(tally.skipped) - SKIPPED} more" if len(tally.skipped) > SKIPPED else ""
        told.append(f"Not tried, because the port cannot do it: {', '.join(tally.skipped[:SKIPPED])}{more}.")
    if tally.left:
        told.append(
            f"The time was over before {tally.left} of {tally.asked + tally.left} attempts: "
            "give more with --budget 30m, or narrow the search with --units, --baud and --format."
        )
    settings = {(one["baud"], one["format"]) for one in found}
    if len(settings) > 1:
        told.append("Devices answer at different settings: those of one line must all have the same one.")
    if tally.mangled:
        units = ", ".join(map(str, tally.mangled))
        told.append(
            f"The answers of unit {units} are mangled each time: two devices have one address, or the line is bad."
        )
    if found or tally.mangled:
        return told
    if tally.garbled:
        told.append(
            f"Something answers, and is not readable at {', '.join(tally.garbled)}: "
            "swap wires A and B once; look for a second master; measure 120 ohm at both ends of the line."
        )
        return told
    return told + (_silent_line() if isinstance(bus.port, SerialPort) else _silent_host(bus))


def setting(line: Line | None) -> str:
    """Name a setting: 9600 8N1."""
    return f"{line.baud} {line.format}" if line else "this connection"


def _silent_line() -> list[str]:
    return [
        "Nothing answers. Look at the power of the devices first: does a lamp or a display show life?",
        "Swap wires A and B once at the gateway: makers name them differently, and nothing breaks.",
        "Measure between A and B with power off: 60 ohm is right, 120 means one terminator is missing, 0 a short.",
        "Is this the right port, and does its adapter blink when the scan sends? `ls /dev/serial/by-path/` shows all.",
        "A program that reads the same line elsewhere (a PLC, a display) disturbs: disconnect it.",
    ]


def _silent_host(bus: Bus) -> list[str]:
    if bus.framing == "tcp":
        return [
            "The host takes the connection and answers no unit. A plain converter needs RTU frames: try --framing rtu.",
            "A device may serve one client only: stop other programs that read it.",
        ]
    return [
        "The converter takes the connection and nothing behind it answers: check its speed and parity on its own page.",
        "Look at the power of the devices, and swap wires A and B once. If it speaks Modbus TCP, try --framing tcp.",
    ]
