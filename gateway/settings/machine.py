"""Whether this machine fits the site file: ports, certificates, disk. Looks at the file system, opens nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from gateway import certificates
from gateway.errors import Problem
from gateway.model import SerialPort, Site
from gateway.settings.document import Document
from gateway.settings.lines import Place

RESERVE = 64 * 2**20
"""Bytes of the disk that are left to the rest of the machine."""


def machine_problems(document: Document, site: Site) -> Iterator[Problem]:
    """Yield what the file names and this machine lacks, every Problem with machine=True."""
    for place, text, advice in _found(site):
        yield document.problem(place, text, advice)._replace(machine=True)


def _found(site: Site) -> Iterator[tuple[Place, str, str]]:
    for index, bus in enumerate(site.buses):
        if isinstance(bus.port, SerialPort):
            for text, advice in _serial(Path(bus.port.port)):
                yield ("bus", index, "serial", "port"), text, advice
        elif bus.port.tls is not None:
            for key in ("ca", "cert", "key"):
                for text, advice in _readable(Path(getattr(bus.port.tls, key))):
                    yield ("bus", index, "tcp", "tls", key), text, advice
    yield from _same_ports(site)
    for key in ("ca", "cert", "key", "password_file"):
        if path := getattr(site.uplink, key):
            for text, advice in _readable(Path(path)):
                yield ("uplink", key), text, advice
    for text, advice in _writable(_nearest(Path(site.store.path))):
        yield ("store", "path"), text, advice
    for text, advice in _roomy(Path(site.store.path), site.store.max_size):
        yield ("store", "max_size"), text, advice


def _same_ports(site: Site) -> Iterator[tuple[Place, str, str]]:
    """One port under two names, e.g. of by-path and by-id."""
    seen: dict[str, str] = {}
    for index, bus in enumerate(site.buses):
        if isinstance(bus.port, SerialPort):
            real = os.path.realpath(bus.port.port)
            if real in seen:
                yield (
                    ("bus", index, "serial", "port"),
                    f"{bus.port.port} is another name of the port of bus {seen[real]}: both are {real}",
                    "one line: put its devices under one [[bus]], or name the other adapter",
                )
            seen.setdefault(real, bus.name)


def _serial(path: Path) -> Iterator[tuple[str, str]]:
    try:
        mode = path.stat().st_mode
    except OSError:
        present = sorted(str(port) for port in Path("/dev/serial/by-path").glob("*"))
        yield (
            f"there is no port {path} on this machine",
            f"present: {', '.join(present)}"
            if present
            else "is the adapter plugged in? no serial adapter is present; try another USB socket or cable",
        )
        return
    if not stat.S_ISCHR(mode):
        yield f"{path} is not a serial port", "name a device below /dev, best one of /dev/serial/by-path"
    elif not os.access(path, os.R_OK | os.W_OK):
        yield f"{path} may not be used by this user", "join the group of serial ports: sudo usermod -aG dialout $USER"


def _readable(path: Path) -> Iterator[tuple[str, str]]:
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError:
        yield f"there is no file {path} on this machine", "copy it there, or correct the path"
    except OSError as error:
        yield (
            f"{path} cannot be read: {error.strerror}",
            "let the user of the agent read it: sudo chgrp gateway FILE; sudo chmod 640 FILE",
        )
    else:
        if empty:
            yield f"{path} is empty", "copy it there again"


def _nearest(path: Path) -> Path:
    """The path, or what exists above it."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _roomy(path: Path, wanted: int) -> Iterator[tuple[str, str]]:
    """A store that meets the end of the disk before its own holds less than was promised, and others suffer."""
    disk = os.statvfs(_nearest(path))
    taken = sum(file.stat().st_size for file in path.glob("gateway.db*"))
    room = disk.f_bavail * disk.f_frsize + taken - RESERVE
    if room < wanted:
        text = f"max_size is {wanted // 10**6} MB, and the disk of {path} has room for {max(0, room) // 10**6} MB"
        beside = f" beside the {RESERVE // 2**20} MiB that the system needs"
        yield text + beside, "lower max_size, free space, or name a directory on a larger disk"


def _writable(there: Path) -> Iterator[tuple[str, str]]:
    if not there.is_dir():
        yield f"{there} is not a directory", "name a directory, e.g. /var/lib/gateway"
    elif not os.access(there, os.W_OK | os.X_OK):
        yield (
            f"{there} may not be written by this user",
            "check as the agent's user: sudo -u gateway gateway check",
        )


def certificate_notes(site: Site, now: float) -> list[str]:
    """Return a sentence for each of the uplink's certificates that has expired, or will within 30 days."""
    remarks = []
    for whose, path in ((certificates.OWN, site.uplink.cert), (certificates.AUTHORITY, site.uplink.ca)):
        ends = certificates.soonest(certificates.in_file(path), now) if path else None
        if ends is not None and (told := certificates.sentence(whose, ends, now)):
            remarks.append(" ".join(told))
    return remarks
