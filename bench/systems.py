"""The systems under test: how each is installed, told the workload, and started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import decode
from field import TAGS, Tag, devices

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "bench"
BUILD = ROOT / ".bench"
MODPOLL = ("modpoll==1.6.0", "pymodbus==3.9.2", "paho-mqtt==2.2.0", "pyserial==3.5")
THINGSBOARD = (
    "thingsboard-gateway==3.8.5",
    "pymodbus==3.9.2",
    "tb-mqtt-client==1.13.13",
    "pyserial",
    "pyserial-asyncio",
)


class Job(NamedTuple):
    """One start of a system. `period` in seconds, 0: as fast as possible. `directory` is empty and on a real disk."""

    directory: Path
    broker: int
    ports: list[int]
    period: float = 1.0
    linger: str = "1s"
    store: str = ""
    """More lines of the gateway's [store]."""


class LineJob(NamedTuple):
    """The same on serial lines: each port has the same units, and the tags are asked of each."""

    directory: Path
    broker: int
    ports: list[str]
    baud: int
    units: Sequence[int]
    tags: Sequence[Tag]
    period: float
    linger: str = "1s"
    store: str = ""


@dataclass(frozen=True)
class System:
    """`command` writes what the system needs into the directory of a Job or LineJob and returns the argument vector."""

    name: str
    label: str
    decode: decode.Decoder
    command: Callable[[Any], list[str]]
    probe: str
    """Python source that imports what the system's run needs."""
    packages: tuple[str, ...] = ()
    """Installed into a private environment; none: the project's own."""
    canned_server: bool = False
    linger: str = "1s"

    @property
    def python(self) -> str:
        return str(BUILD / self.packages[0].replace("==", "-") / "bin" / "python") if self.packages else sys.executable


def install(system: System) -> None:
    """Makes the private environment when it is not there. subprocess.CalledProcessError when that fails."""
    if not system.packages:
        return
    home = Path(system.python).parent.parent
    marker = home / "installed"
    wanted = "\n".join(system.packages)
    pip = [system.python, "-m", "pip", "install", "-q"]
    if marker.exists() and marker.read_text() == wanted:
        return
    for command in ([sys.executable, "-m", "venv", "--clear", str(home)], [*pip, *system.packages]):
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True)
    marker.write_text(wanted)


def _gateway(job: Job) -> list[str]:
    buses = {
        f'name = "plc-{endpoint + 1}"\ntcp = {{ host = "127.0.0.1", port = {port} }}': [
            (name, unit) for name, unit, at in devices() if at == endpoint
        ]
        for endpoint, port in enumerate(job.ports)
    }
    return gateway(job, TAGS, buses)


def gateway(
    job: Job | LineJob,
    tags: Sequence[Tag],
    buses: Mapping[str, Sequence[tuple[str, int]]],
    counters: Sequence[str] = (),
) -> list[str]:
    """`buses`: the head of each [[bus]], and the (name, unit) of the devices on it; `counters`: tags that count."""
    every = f'"{job.period:g}s"' if job.period else '"asap"'
    points = "".join(
        f"\n    [[bus.device.point]]\n"
        f'    name = "{t.name}"\n    table = "holding"\n    at = {t.at}\n    type = "{t.type}"\n'
        f'    kind = "{"counter" if t.name in counters else "gauge"}"\n'
        for t in tags
    )
    lines = [
        '[gateway]\nid = "bench"\nsite = "bench"\n\n[clock]\ntrust = "system"\n',
        f'[uplink]\nbrokers = ["mqtt://127.0.0.1:{job.broker}"]\n',
        f'[store]\npath = "{job.directory / "store"}"\nlinger = "{job.linger}"\n{job.store}\n',
    ]
    for head, units in buses.items():
        lines.append(f"[[bus]]\n{head}\n")
        lines += [
            f'  [[bus.device]]\n  name = "{name}"\n  driver = "modbus"\n  address = {unit}\n  every = {every}\n{points}'
            for name, unit in units
        ]
    site = job.directory / "gateway.toml"
    site.write_text("\n".join(lines))
    return [sys.executable, "-m", "gateway", "run", "--config", str(site)]


def _plain(job: Job) -> list[str]:
    return [sys.executable, str(HERE / "plain_loop.py"), str(job.broker), str(job.period), *map(str, job.ports)]


def _modpoll(job: Job) -> list[str]:
    """All twenty units on the first endpoint: one process of modpoll knows one host."""
    port = f"--tcp 127.0.0.1 --tcp-port {job.ports[0]}"
    return modpoll(job, TAGS, [(name, unit) for name, unit, _ in devices()], port)


def modpoll(job: Job | LineJob, tags: Sequence[Tag], units: Sequence[tuple[str, int]], port: str) -> list[str]:
    types = {"u32": "uint32", "f32": "float32", "s16": "int16"}
    lines = []
    for name, unit in units:
        lines += [f"device,{name},{unit},,", "poll,holding_register,0,20,BE_BE"]
        lines += [f"ref,{t.name},{t.at},{types[t.type]},r" for t in tags]
    table = job.directory / "modpoll.csv"
    table.write_text("\n".join(lines) + "\n")
    told = f"-d -f {table} {port} --rate {job.period or 0.001} --interval 0 --timeout 1"
    told += (
        f" --mqtt-host 127.0.0.1 --mqtt-port {job.broker} --mqtt-qos 1 --mqtt-version 5.0 --timestamp --loglevel ERROR"
    )
    python = str(BUILD / MODPOLL[0].replace("==", "-") / "bin" / "python")
    return [python, "-m", "modpoll", *told.split(), "--mqtt-publish-topic-pattern", "b/{{device_name}}/data"]


def _thingsboard(storage: dict[str, object], job: Job) -> list[str]:
    transport = {"host": "127.0.0.1", "type": "tcp", "method": "socket"}
    units = [transport | {"port": job.ports[at], "unitId": unit, "deviceName": name} for name, unit, at in devices()]
    return thingsboard(storage, job, TAGS, units)


def thingsboard(
    storage: dict[str, object], job: Job | LineJob, tags: Sequence[Tag], units: Sequence[dict[str, Any]]
) -> list[str]:
    """Shipped defaults, but: statistics, remote configuration and rate limits off, the given storage, log at ERROR."""
    types = {"u32": ("32uint", 2), "f32": ("32float", 2), "s16": ("16int", 1), "u16": ("16uint", 1)}
    timeseries = [
        {"tag": t.name, "type": types[t.type][0], "functionCode": 3, "objectsCount": types[t.type][1], "address": t.at}
        for t in tags
    ]
    common: dict[str, Any] = {"deviceType": "default", "timeout": 1}
    common |= {"byteOrder": "BIG", "wordOrder": "BIG", "retries": 3, "retryOnEmpty": True, "retryOnInvalid": True}
    common |= {"pollPeriod": round((job.period or 0.1) * 1000), "connectAttemptTimeMs": 500, "connectAttemptCount": 5}
    common |= {
        "waitAfterFailedAttemptsMs": 30000,
        "attributes": [],
        "attributeUpdates": [],
        "rpc": [],
        "timeseries": timeseries,
    }
    limits = ("rateLimits", "dpRateLimits", "messagesRateLimits", "deviceMessagesRateLimits", "deviceRateLimits")
    server: dict[str, object] = dict.fromkeys((*limits, "deviceDpRateLimits"), "0:0,")
    server |= {"host": "127.0.0.1", "port": job.broker, "remoteShell": False, "remoteConfiguration": False, "qos": 1}
    server |= {"statistics": {"enable": False, "enableCustom": False}, "deviceFiltering": {"enable": False}}
    server |= {"security": {"type": "accessToken", "accessToken": "bench"}, "reportStrategy": {"type": "ON_RECEIVED"}}
    server |= {"maxPayloadSizeBytes": 8196, "minPackSendDelayMS": 50, "minPackSizeToSend": 500}
    server |= {"checkConnectorsConfigurationInSeconds": 60, "handleDeviceRenaming": True}
    connector = {"type": "modbus", "name": "Modbus", "configuration": "modbus.json"}
    folder = f"{job.directory}/data/"
    places = {"data_folder_path": folder, "data_file_path": folder}
    main = {"thingsboard": server, "storage": storage | places, "grpc": {"enabled": False}, "connectors": [connector]}
    names = ("database", "service", "connector", "converter", "tb_connection", "storage", "extension")
    console = {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}
    logs = {"version": 1, "disable_existing_loggers": False, "handlers": {"consoleHandler": console}}
    logs["loggers"] = {n: {"handlers": ["consoleHandler"], "level": "ERROR", "propagate": False} for n in names}
    devices_of = {"slaves": [common | unit for unit in units]}
    modbus = {"master": devices_of, "slave": None, "logLevel": "ERROR", "name": "Modbus"}
    for name, body in (("tb_gateway", main), ("modbus", modbus), ("logs", logs)):
        (job.directory / f"{name}.json").write_text(json.dumps(body, indent=1))
    python = str(BUILD / THINGSBOARD[0].replace("==", "-") / "bin" / "python")
    return [python, "-c", "from thingsboard_gateway.tb_gateway import main; main()"]


def environment(job: Job | LineJob) -> dict[str, str]:
    """Ours, without what would make the agent raise a driver's bug, or put its control socket elsewhere."""
    kept = {k: v for k, v in os.environ.items() if k not in ("GATEWAY_STRICT", "RUNTIME_DIRECTORY")}
    return kept | {"TB_GW_CONFIG_DIR": f"{job.directory}/"}


SQLITE: dict[str, object] = {"type": "sqlite", "messages_ttl_check_in_hours": 1, "messages_ttl_in_days": 7}
_FILE: dict[str, object] = {
    "type": "file",
    "max_file_count": 10,
    "max_read_records_count": 10,
    "max_records_per_file": 10000,
}
_TB_PROBE = (
    "import thingsboard_gateway.gateway.tb_gateway_service, thingsboard_gateway.connectors.modbus.modbus_connector"
)
_OURS_PROBE = "import gateway.__main__, gateway.cli.run, gateway.app, drivers.modbus.driver"

SYSTEMS = {
    s.name: s
    for s in (
        System("ours", "gateway, linger 1 s", decode.native, _gateway, _OURS_PROBE),
        System("ours-0s", "gateway, linger 0 s", decode.native, _gateway, _OURS_PROBE, linger="0s"),
        System("plain", "plain loop", decode.plain, _plain, "import pymodbus.client, aiomqtt"),
        System("modpoll", "modpoll 1.6.0", decode.modpoll, _modpoll, "import modpoll.main", MODPOLL),
        System(
            "tb-sqlite",
            "ThingsBoard gateway 3.8.5, SQLite",
            decode.thingsboard,
            lambda job: _thingsboard(SQLITE, job),
            _TB_PROBE,
            THINGSBOARD,
            canned_server=True,
        ),
        System(
            "tb-file",
            "ThingsBoard gateway 3.8.5, files",
            decode.thingsboard,
            lambda job: _thingsboard(_FILE, job),
            _TB_PROBE,
            THINGSBOARD,
            canned_server=True,
        ),
    )
}
