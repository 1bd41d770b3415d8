"""What was found, as lines for the site file. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.model import Bus, SerialPort
from gateway.settings.quantities import plain

EVERY = "10s"

Found = Mapping[str, Any]
"""A message of scan: unit, baud, format, profiles, known, ..."""


def stanza(bus: Bus, found: Sequence[Found], *, standing: bool) -> str:
    """Return TOML for the new devices; "" when there are none.

    `standing`: the bus stands in the site file already, so only its new devices are written; otherwise the bus, too.
    """
    new = [one for one in found if not one["known"]]
    if not new:
        return ""
    setting = _setting(found)
    here = [one for one in new if (one["baud"], one["format"]) == setting]
    blocks = [_bus(bus, setting)] if not standing else [_below(bus, setting)]
    names = {device.name for device in bus.devices}
    blocks += [_device(one, names) for one in here]
    blocks += [_elsewhere(one, setting) for one in new if one not in here]
    return "\n\n".join(blocks) + "\n"


def text(value: str) -> str:
    """Write a TOML string."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _setting(found: Sequence[Found]) -> tuple[int | None, str | None]:
    """The setting at which most devices answer."""
    return Counter((one["baud"], one["format"]) for one in found).most_common(1)[0][0]


def _port(bus: Bus, setting: tuple[int | None, str | None]) -> str:
    port = bus.port
    framing = f", framing = {text(bus.framing)}"
    if isinstance(port, SerialPort):
        baud, form = setting
        rs485 = ", rs485 = true" if port.rs485 else ""
        framing = framing if bus.framing != "rtu" else ""
        return f"serial = {{ port = {text(port.port)}, baud = {baud}, format = {text(form or '')}{framing}{rs485} }}"
    framing = framing if bus.framing != "tcp" else ""
    tls = port.tls
    files = f"ca = {text(tls.ca)}, cert = {text(tls.cert)}, key = {text(tls.key)}" if tls else ""
    secure = f", tls = {{ {files} }}" if files else ""
    return f"tcp = {{ host = {text(port.host)}, port = {port.port}{framing}{secure} }}"


def _bus(bus: Bus, setting: tuple[int | None, str | None]) -> str:
    name = plain(bus.name.rpartition("/")[2]) or "bus-1"
    return f"[[bus]]\nname = {text(name)}\n{_port(bus, setting)}"


def _below(bus: Bus, setting: tuple[int | None, str | None]) -> str:
    head = f"# Write this below the last device of bus {bus.name}."
    if isinstance(bus.port, SerialPort) and setting != (bus.port.baud, bus.port.format):
        head += (
            f"\n# The devices answer at another setting than the site file has; write there:\n# {_port(bus, setting)}"
        )
    return head


def _device(one: Found, taken: set[str]) -> str:
    """The device with its profile; a stranger with the register that has answered, or all of it as a remark."""
    unit = one["unit"]
    profile, *others = [candidate["profile"] for candidate in one["profiles"]] or [""]
    name = _free(f"{profile or 'device'}-{unit}", taken)
    lines = ["[[bus.device]]", f"name = {text(name)}", f"address = {unit}", f'every = "{EVERY}"']
    if profile:
        lines.insert(2, f"profile = {text(profile)}" + (f"  # or {', '.join(others)}" if others else ""))
    else:
        lines.insert(2, 'driver = "modbus"  # no profile fits: write the points of its manual')
        lines += ["", "  [[bus.device.point]]", '  name = "register-0"', '  table = "holding"', "  at = 0"]
    if not profile and one["exception"] is not None:
        why = f"unit {unit} answers, but has no holding register 0: give it a profile, or points that it has"
        lines = [f"# {line}".rstrip() for line in (why, *lines)]
    if one["what"]:
        lines.insert(0, f"# {_printable(one['what'])}")
    return "\n".join(f"  {line}".rstrip() for line in lines)


def _elsewhere(one: Found, setting: tuple[int | None, str | None]) -> str:
    return (
        f"  # Unit {one['unit']} answers at {one['baud']} {one['format']}. All devices of a line need one setting: "
        f"set it to {setting[0]} {setting[1]} at the device, or give it a line of its own."
    )


def _free(name: str, taken: set[str]) -> str:
    """A name that no other device has, from now on taken."""
    free, number = name, 2
    while free in taken:
        free, number = f"{name}-{number}", number + 1
    taken.add(free)
    return free


def _printable(what: str) -> str:
    """One line of text that cannot end a remark."""
    return "".join(character if character.isprintable() else " " for character in what)[:100]
