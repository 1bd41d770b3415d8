"""From checked tables to the finished Site: profile and site file merged, births made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from drivers.base import Point
from gateway.model import Bus, Device, SerialPort, Site, StoreSettings, TcpPort, Tls, Uplink
from gateway.settings import birth
from gateway.settings.points import finished, merged, register_of
from gateway.settings.profile import SHIPPED, Catalogue, Profile
from gateway.settings.tables import BusTable, DeviceTable, OptionsTable, SiteTable, TcpTable
from gateway.settings.wires import usual_port


def site(table: SiteTable, sha256: str, catalogue: Catalogue) -> Site:
    """Build the Site of a site file that has passed every rule."""
    uplink = table.uplink.model_dump()
    return Site(
        gateway=table.gateway.id,
        site=table.gateway.site,
        clock=table.clock.trust,
        uplink=Uplink(**{**uplink, "brokers": tuple(uplink["brokers"])}),
        store=StoreSettings(**table.store.model_dump()),
        buses=tuple(_bus(bus, catalogue) for bus in table.bus),
        sha256=sha256,
    )


def device_from_profile(name: str, address: int, bus: str) -> Device:
    """Build a device of a shipped profile as it stands, on a serial bus. KeyError when there is no such profile."""
    profile = Catalogue((SHIPPED,)).get(name)
    head = profile.table.profile
    return _born(
        profile=profile,
        name=f"{name}-{address}",
        driver=head.driver,
        address=address,
        bus=bus,
        location="",
        points=[finished(point, 10.0) for point in profile.table.point],
        framing="rtu",
        limits=profile.table.limits,
    )


def _bus(table: BusTable, catalogue: Catalogue) -> Bus:
    port: SerialPort | TcpPort
    if table.serial is not None:
        port = SerialPort(table.serial.port, table.serial.baud, table.serial.format, table.serial.rs485)
        framing = table.framing or table.serial.framing or "rtu"
    else:
        assert table.tcp is not None, "the rules have seen one of the two"
        port = _tcp_port(table.tcp)
        framing = table.framing or table.tcp.framing or "tcp"
    devices = tuple(_device(device, table.name, framing, catalogue) for device in table.device)
    return Bus(table.name, port, framing, devices, table.timeout)


def _tcp_port(table: TcpTable) -> TcpPort:
    tls = Tls(**table.tls.model_dump()) if table.tls else None
    return TcpPort(table.host, table.port or usual_port(tls), tls)


def _device(table: DeviceTable, bus: str, framing: str, catalogue: Catalogue) -> Device:
    profile = catalogue.get(table.profile) if table.profile else None
    points = []
    for point in profile.table.point if profile else ():
        override = table.points.get(point.name)
        if override is None or override.enabled:
            points.append(finished(merged(point, override), table.every))
    points += [finished(point, table.every) for point in table.point]
    return _born(
        profile=profile,
        name=table.name,
        driver=profile.table.profile.driver if profile else table.driver,
        address=table.address,
        bus=bus,
        location=table.location,
        points=points,
        framing=framing,
        limits=_limits(table, profile),
        quiet=tuple(table.quiet),
    )


def _limits(table: DeviceTable, profile: Profile | None) -> OptionsTable:
    """Merge the limits: the site wins over the profile. What reading clears and is switched off is never read along."""
    if profile is None:
        return table.options
    limits = profile.table.limits.model_copy(update=table.options.model_dump(exclude_none=True))
    off = [name for name, override in table.points.items() if not override.enabled]
    spared = [register_of(profile.points[name]) for name in off if profile.points[name].read_clears]
    if not spared:
        return limits
    ranges = [(register.table, register.at, register.end - 1) for register in spared]
    return limits.model_copy(update={"forbidden": [*(limits.forbidden or ()), *ranges]})


def _options(address: int, framing: str, limits: OptionsTable) -> dict[str, Any]:
    """Return the keyword arguments of the driver."""
    known = limits.model_dump(exclude_none=True, exclude={"min_interval", "identify"})  # the poller minds these two
    options: dict[str, Any] = {"unit": address, "framing": framing, **known}
    if "forbidden" in options:  # people write first and last, the driver counts
        options["forbidden"] = [(table, first, last - first + 1) for table, first, last in options["forbidden"]]
    return options


def _born(
    *,
    profile: Profile | None,
    name: str,
    driver: str,
    address: int,
    bus: str,
    location: str,
    points: Iterable[Point],
    framing: str,
    limits: OptionsTable,
    quiet: tuple[tuple[int, int], ...] = (),
) -> Device:
    """Build the device and its birth."""
    head = profile.table.profile if profile else None
    known = {
        "id": head.id if head else "",
        "sha256": profile.sha256 if profile else "",
        "confidence": head.confidence if head else "",
    }
    points = tuple(points)
    described = birth.points(points)
    body = {
        "device": name,
        "profile": known,
        "class": head.class_ if head else "",
        "driver": driver,
        "bus": bus,
        "address": address,
        "location": location,
        "points": described,
    }
    return Device(
        name=name,
        driver=driver,
        address=address,
        points=points,
        options=_options(address, framing, limits),
        min_interval=limits.min_interval or 0.0,
        quiet=quiet,
        identify=limits.identify is True,
        polled=address != 0 or framing == "tcp",
        kind=head.class_ if head else "",
        location=location,
        profile=known["id"],
        profile_sha256=known["sha256"],
        confidence=known["confidence"],
        birth=body,
        cfg=birth.cfg(described),
    )
