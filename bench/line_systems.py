"""The systems under test on serial lines: the same as in systems.py, and the bare master."""

from __future__ import annotations

import sys

import decode
from field import compiled
from systems import BUILD, HERE, MODPOLL, SQLITE, THINGSBOARD, LineJob, System, gateway, modpoll, thingsboard


def devices(job: LineJob, line: int) -> list[tuple[str, int]]:
    """(name, unit) of the devices on a line."""
    return [(f"line-{line + 1}-{unit:02}", unit) for unit in job.units]


def _gateway(job: LineJob) -> list[str]:
    buses = {
        f'name = "line-{n + 1}"\nserial = {{ port = "{port}", baud = {job.baud}, format = "8N1" }}': devices(job, n)
        for n, port in enumerate(job.ports)
    }
    return gateway(job, job.tags, buses)


def _master(job: LineJob) -> list[str]:
    binary = compiled("master", BUILD, "-l:libmodbus.so.5")
    if binary is None:
        raise OSError("no C compiler")
    return [binary, job.ports[0], str(job.baud), str(len(job.units)), str(round(job.period * 1e6))]


def _modpoll(job: LineJob) -> list[str]:
    port = f"--rtu {job.ports[0]} --rtu-baud {job.baud} --rtu-parity none"
    return modpoll(job, job.tags, devices(job, 0), port)


def _thingsboard(job: LineJob) -> list[str]:
    form = {"type": "serial", "method": "rtu", "baudrate": job.baud, "stopbits": 1, "bytesize": 8, "parity": "N"}
    units = [
        form | {"port": port, "unitId": unit, "deviceName": name}
        for n, port in enumerate(job.ports)
        for name, unit in devices(job, n)
    ]
    return thingsboard(SQLITE, job, job.tags, units)


def _plain(job: LineJob) -> list[str]:
    script = str(HERE / "plain_line.py")
    told = (job.broker, job.baud, job.period, job.units[0], job.units[-1])
    return [sys.executable, script, *map(str, told), *job.ports]


LINE_SYSTEMS = {
    s.name: s
    for s in (
        System("ours", "ours", decode.native, _gateway, ""),
        System("c", "C master", lambda _record: (), _master, ""),
        System("modpoll", "modpoll", decode.modpoll, _modpoll, "", MODPOLL),
        System("tb-sqlite", "ThingsBoard", decode.thingsboard, _thingsboard, "", THINGSBOARD, canned_server=True),
        System("plain", "plain loop", decode.plain, _plain, ""),
    )
}
