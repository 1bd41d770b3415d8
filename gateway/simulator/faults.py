"""The ways in which a simulated device or line fails: their names, their settings, and their text form. Pure.

A fault is written as "crc rate=0.02 bits=4": a name, then what differs from the settings in `KINDS`. What the faults do
stands in effects.py.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gateway.errors import GatewayError
from gateway.model import Bus


class Key(NamedTuple):
    """A setting: its value unless it is said, and its range. A whole number stays one; a text has no range."""

    default: float | str
    low: float = 0.0
    high: float = 1e9


class Kind(NamedTuple):
    """A fault: what happens, and its settings.

    `line`: it befalls a whole bus. `wire`: it harms bytes as a serial wire does, so Modbus TCP cannot have it.
    """

    text: str
    keys: Mapping[str, Key]
    line: bool = False
    wire: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault with all its settings, as `parse` makes it."""

    name: str
    numbers: Mapping[str, float]
    words: Mapping[str, str]

    def __getitem__(self, key: str) -> float:
        return self.numbers[key]


_RATE = Key(1.0, 0, 1)
_CODE = Key(4, 1, 11)


def _spans(seconds: float, every: float, after: float = 0.0) -> dict[str, Key]:
    return {"seconds": Key(seconds), "every": Key(every), "after": Key(after)}


KINDS: dict[str, Kind] = {
    "silence": Kind("the device does not hear a request", {"rate": _RATE}),
    "slow": Kind("the device thinks longer, by so many seconds", {"seconds": Key(0.3)}),
    "late": Kind(
        "the device answers after the master has given up; up to 4 requests wait meanwhile and are answered in order",
        {"seconds": Key(1.5), "rate": _RATE},
    ),
    "wrong-unit": Kind("the reply carries another unit and its values", {"rate": _RATE}),
    "wrong-function": Kind("the reply is a good one to another function", {"rate": _RATE}),
    "wrong-length": Kind("the reply is good, with more or less data than was asked for", {"rate": _RATE}),
    "crc": Kind(
        "1 to `bits` bits of the reply flip on the wire; never so that its checksum fits again",
        {"rate": _RATE, "bits": Key(1, 1, 4)},
        wire=True,
    ),
    "noise": Kind(
        "so many random bytes stand before and after a reply",
        {"rate": _RATE, "before": Key(3, 0, 64), "after": Key(0, 0, 64)},
        wire=True,
    ),
    "clipped": Kind(
        "1 to `bytes` first bytes of the reply are missing: the line was turned round too late",
        {"rate": _RATE, "bytes": Key(2, 1, 4)},
        wire=True,
    ),
    "lost": Kind(
        "so many bytes in the middle of the reply are missing", {"rate": _RATE, "bytes": Key(1, 1, 64)}, wire=True
    ),
    "fragmented": Kind(
        "the reply comes in pieces of so many bytes, with gaps of so many seconds",
        {"rate": _RATE, "piece": Key(4, 1, 256), "gap": Key(0.02)},
    ),
    "conflict": Kind(
        "another device has the same unit: the replies collide; a share of `clean` is the true one alone",
        {"clean": Key(0.1, 0, 1)},
        wire=True,
    ),
    "exception": Kind("the device refuses with this exception code", {"rate": _RATE, "code": _CODE}),
    "storm": Kind(
        "for so many seconds, at intervals, the device refuses everything with this code",
        {"code": Key(6, 1, 11), **_spans(5.0, 30.0)},
    ),
    "reboot": Kind(
        "the device starts again: silent for so many seconds, at intervals; its counters begin anew, from zero",
        _spans(3.0, 60.0),
    ),
    "identity": Kind(
        "another device is found in its place: function codes 17 and 43 tell this",
        {"vendor": Key(""), "product": Key(""), "revision": Key("")},
    ),
    "echo": Kind("the line gives every request back, before the reply", {}, line=True, wire=True),
    "babble": Kind(
        "the line is flooded with bytes at its own speed, and nothing else gets through; seconds=0: without end",
        _spans(0.0, 0.0),
        line=True,
    ),
    "unplug": Kind(
        "the port goes away for so many seconds, at intervals, and comes back under another number", _spans(3.0, 60.0),
        line=True,
    ),
}  # fmt: skip


def listing() -> list[tuple[str, str]]:
    """Every fault in its text form with all settings, and what happens."""
    return [(_form(name), kind.text) for name, kind in KINDS.items()]


def _form(name: str) -> str:
    return " ".join([name, *(f"{key}={_said(value.default)}" for key, value in KINDS[name].keys.items())])


def _said(default: float | str) -> str:
    return "TEXT" if isinstance(default, str) else f"{default:g}"


def parse(text: str) -> Fault:
    """Read "late seconds=1.5 rate=0.1". GatewayError when it is no fault."""
    try:
        name, *settings = shlex.split(text)
    except ValueError:
        raise GatewayError(
            f"{text!r} is not a fault: a name is missing, or a quote is not closed. Write a name and its settings, for "
            f"example: late seconds=1.5 rate=0.1. {_known()}"
        ) from None
    kind = KINDS.get(name)
    if kind is None:
        raise GatewayError(f"There is no fault {name!r}{_near(name, KINDS)} {_known()}")
    numbers = {key: value.default for key, value in kind.keys.items() if not isinstance(value.default, str)}
    words: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if key not in kind.keys or not equals:
            raise GatewayError(
                f"{name}: there is no setting {setting!r}{_near(key, kind.keys)} It is written: {_form(name)}"
            )
        if isinstance(kind.keys[key].default, str):
            words[key] = _text(name, key, value)
        else:
            numbers[key] = _number(name, key, value)
    return Fault(name, numbers, words)


def _number(name: str, key: str, text: str) -> float:
    """The value of a setting, within its range; whole where its default is."""
    default, low, high = KINDS[name].keys[key]
    whole = isinstance(default, int)
    try:
        value = int(text, 0) if whole else float(text)
    except ValueError:
        value = high + 1
    if not low <= value <= high:
        wanted = f"a {'whole ' if whole else ''}number" + (
            f" in {low:g}..{high:g}" if high < Key("").high else " from 0 up"
        )
        raise GatewayError(f"{name}: {key}={text} cannot be. It must be {wanted}; for example: {_form(name)}")
    return value


def _text(name: str, key: str, text: str) -> str:
    if not text.isprintable() or len(text.encode()) > _LONGEST_TEXT:
        raise GatewayError(
            f"{name}: {key} cannot be told in one frame. Write at most {_LONGEST_TEXT} bytes of printable text."
        )
    return text


_LONGEST_TEXT = 244  # an object of function 43/14: a PDU of 253 bytes less its 7 + 2 of heading


def _known() -> str:
    return f"The faults are: {', '.join(KINDS)}. `gateway simulate --faults` explains them."


def _near(word: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {near[0]}?" if near else "."


def check(buses: Sequence[Bus], name: str, faults: Sequence[Fault]) -> None:
    """GatewayError when no bus or device has this name, or cannot have one of these faults."""
    bus = next((bus for bus in buses if bus.name == name), None)
    behind = next((bus for bus in buses if any(device.name == name for device in bus.devices)), None)
    there = bus or behind
    if there is None:
        names = {each: None for bus in buses for each in (bus.name, *(device.name for device in bus.devices))}
        raise GatewayError(
            f"There is no device or bus {name!r} to give a fault to{_near(name, names)} "
            f"The names are: {', '.join(names)}."
        )
    for fault in faults:
        kind = KINDS[fault.name]
        if kind.line and bus is None:
            raise GatewayError(
                f"{name}: {fault.name} befalls a whole line, and {name} is one device on it. "
                f'Write the name of its bus: --fault "{there.name}: {fault.name}".'
            )
        if kind.wire and there.framing == "tcp":
            raise GatewayError(
                f"{name}: {fault.name} cannot happen on {there.name}, which speaks Modbus TCP: TCP carries bytes "
                "unharmed and in order. Choose another fault, or a bus with a serial port or framing rtu."
            )


class Span(NamedTuple):
    """When the latest span of a fault began, in seconds since it was given, and whether it still lasts."""

    start: float
    lasts: bool


def span(fault: Fault, elapsed: float) -> Span | None:
    """The latest span `elapsed` seconds after the fault was given; None before the first."""
    since, every, seconds = elapsed - fault["after"], fault["every"], fault["seconds"]
    if since < 0:
        return None
    past = since // every * every if every else 0.0
    return Span(fault["after"] + past, not seconds or since - past < seconds)
