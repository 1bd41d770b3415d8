"""Whether this machine fits the site file: ports, certificates, disk. Looks at the file system, opens nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from gateway.errors import Problem
from gateway.model import SerialPort, Site
from gateway.settings.document import Document
from gateway.settings.lines import Place


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
    for text, advice in _writable(Path(site.store.path)):
        yield ("store", "path"), text, advice


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


def _writable(path: Path) -> Iterator[tuple[str, str]]:
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        yield f"{there} is not a directory", "name a directory, e.g. /var/lib/gateway"
    elif not os.access(there, os.W_OK | os.X_OK):
        yield (
            f"{there} may not be written by this user",
            "check as the agent's user: sudo -u gateway gateway check",
        )
