"""What must hold between the tables of a site file.

The rules read the raw document and skip what has the wrong form, so that one mistake never hides another.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from drivers import DRIVERS
from gateway.errors import ConfigError, Problem
from gateway.settings.document import Document
from gateway.settings.explain import nearest
from gateway.settings.lines import Place
from gateway.settings.points import CLEARED_ASAP, point_problems, range_problem
from gateway.settings.profile import Catalogue, Profile
from gateway.settings.quantities import Wrong, broker, is_plain_remote, size
from gateway.settings.tables import PointTable
from gateway.settings.wires import framing_of, wires

Raw = dict[str, Any]


def rules(document: Document, catalogue: Catalogue) -> Iterator[Problem]:
    """Yield every broken rule of the site file."""
    yield from _uplink(document)
    yield from _store(document)
    yield from _unique(document, [("bus", index) for index, _ in document.tables(("bus",))], "bus")
    yield from wires(document)
    devices: list[Place] = []
    for index, bus in document.tables(("bus",)):
        place: Place = ("bus", index)
        for number, device in document.tables((*place, "device")):
            devices.append((*place, "device", number))
            yield from _device(document, devices[-1], device, catalogue, on_line=framing_of(bus) != "tcp")
    yield from _unique(document, devices, "device")


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
        name = document.at(place).get("name")
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


def _device(document: Document, place: Place, device: Raw, catalogue: Catalogue, *, on_line: bool) -> Iterator[Problem]:
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
    in_use = _in_use(document, place, device, profile)
    bare = [name for name, point in in_use.items() if point.get("read_clears") is True and "every" not in point]
    if bare and device.get("every") == "asap":
        yield document.problem(
            (*place, "every"),
            f'is "asap" also for "{bare[0]}", a value that reading clears: little would be left of it',
            f'give "{bare[0]}" a period of its own, e.g. every = "1m"',
        )
    mute = [name for name, point in in_use.items() if point.get("writable") is not True]
    if mute and on_line and device.get("address") == 0:
        yield document.problem(
            (*place, "address"),
            f'is 0: this speaks to all devices of the line at once and none answers, so "{mute[0]}" cannot be read',
            "write the device's own address, 1 to 247; 0 is for a device all of whose points have writable = true",
        )


def _in_use(document: Document, place: Place, device: Raw, profile: Profile | None) -> dict[str, Raw]:
    """The points that are not switched off, as this site has them: every (where a point has its own), writable, ..."""
    found = {str(point.get("name")): point for _, point in document.tables((*place, "point"))}
    overrides = device.get("points")
    for name, point in profile.points.items() if profile else ():
        override = overrides.get(name) if isinstance(overrides, dict) else None
        known = override if isinstance(override, dict) else {}
        if known.get("enabled") is not False:
            own = {} if point.every is None else {"every": point.every}
            writable = point.writable and known.get("writable") is True
            found[name] = {**own, **known, "writable": writable, "read_clears": point.read_clears}
    return found


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
    if override.get("every") == "asap" and point.read_clears:
        yield document.problem((*place, "every"), *CLEARED_ASAP)
