"""The values that flow through the gateway. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from drivers.base import Point, Sample


class Readings(NamedTuple):
    """The readings of one device that were answered together: samples that have a place and a time.

    `cfg` names the birth that explains the points; `at` is the end of the reply in monotonic ms of this boot.
    """

    device: str
    cfg: str
    at: int
    samples: Sequence[Sample]


class Reading(NamedTuple):
    """One reading as the IOC sees it. `ts` is wall time in ms since 1970 UTC."""

    gw: str
    device: str
    point: str
    ts: int
    value: float | int | bool | str | None
    quality: str
    epoch: str
    seq: int
    hist: bool


@dataclass(frozen=True, slots=True)
class Batch:
    """What is stored, published and acknowledged together.

    Key: (epoch, stream, seq). `t0` (wall ms) and `m0` (monotonic ms of `boot`) are the same instant. `data` is the
    MessagePack of the blocks for stream "t", compressed when `zipped`; for "e" and "c" the MessagePack of the body.
    `historical` marks backlog and re-sends: they must not overwrite live values.
    """

    epoch: str
    stream: str
    seq: int
    boot: str
    t0: int
    m0: int
    clk: str
    count: int
    zipped: bool
    data: bytes
    historical: bool = False

    @property
    def key(self) -> tuple[str, str, int]:
        return self.epoch, self.stream, self.seq


Ranges = tuple[tuple[int, int], ...]
"""Closed ranges of sequence numbers, ascending, disjoint: ((1, 5), (7, 7))."""


@dataclass(frozen=True, slots=True)
class SerialPort:
    """A serial line: `format` is data bits, parity, stop bits, e.g. "8N1".

    `rs485` lets the kernel switch the direction of an RS-485 transceiver (TIOCSRS485), where its driver can.
    """

    port: str
    baud: int = 9600
    format: str = "8N1"
    rs485: bool = False

    @property
    def bits(self) -> int:
        """Bits on the wire per character, start bit included."""
        return 1 + int(self.format[0]) + (self.format[1] != "N") + int(self.format[2])


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of a TLS connection: the authority to trust, this side's certificate and its key."""

    ca: str
    cert: str
    key: str


@dataclass(frozen=True, slots=True)
class TcpPort:
    """A TCP endpoint, with TLS on both sides when it speaks Modbus Security."""

    host: str
    port: int = 502
    tls: Tls | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """One unit on a bus, with its finished points."""

    name: str
    driver: str
    address: int
    points: tuple[Point, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments for the driver: framing, limits of the profile."""
    min_interval: float = 0.0
    """Seconds that the device needs between two requests."""
    quiet: tuple[tuple[int, int], ...] = ()
    """When it is left alone: (from, to) in seconds of the local day; to < from goes past midnight."""
    identify: bool = False
    """It is asked who it is when it appears, and every hour."""
    polled: bool = True
    """False for the broadcast address of a line: it can be told something, and never answers."""
    kind: str = ""
    """Class of the device, e.g. "energy-3ph"."""
    location: str = ""
    profile: str = ""
    profile_sha256: str = ""
    confidence: str = ""
    birth: Mapping[str, Any] = field(default_factory=dict)
    """Body of up/birth without `v`, `gw`, `cfg`: what explains the points to the IOC."""
    cfg: str = ""
    """8 hex digits of the hash of the points' metadata: devices with the same points share it."""


@dataclass(frozen=True, slots=True)
class Bus:
    """A port and all that shares it."""

    name: str
    port: SerialPort | TcpPort
    framing: str
    devices: tuple[Device, ...]
    timeout: float = 1.0
    """Response time-out in seconds before the wire time of request and reply."""


@dataclass(frozen=True, slots=True)
class Uplink:
    brokers: tuple[str, ...]
    prefix: str = "city"
    format: str = "native"
    confirm: str = "puback"
    ca: str = ""
    cert: str = ""
    key: str = ""
    username: str = ""
    password_file: str = ""
    insecure: bool = False
    window: int = 20
    keepalive: float = 60.0
    health_every: float = 60.0
    max_per_second: int = 0
    """Bytes over the network, for telemetry; 0: no limit."""
    max_per_day: int = 0


@dataclass(frozen=True, slots=True)
class StoreSettings:
    path: str = "/var/lib/gateway"
    max_size: int = 512_000_000
    durability: str = "bounded"
    linger: float = 1.0
    commit_every: float = 1.0
    keep_acked: int = 0


@dataclass(frozen=True, slots=True)
class Site:
    """What one gateway is told: the site file and its profiles, merged and checked."""

    gateway: str
    site: str
    clock: str
    uplink: Uplink
    store: StoreSettings
    buses: tuple[Bus, ...]
    sha256: str = ""
    """Of the site file's bytes."""


def event(  # the keys of up/event, contract section 1
    code: str,
    text: str,
    *,
    raised: bool = True,
    severity: str = "warning",
    bus: str = "",
    device: str = "",
    cause: str = "",
    advice: str = "",
    data: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Build the body of an event. The same thing raised and cleared has the same `id`."""
    return {
        "id": "/".join(part for part in (code, bus, device) if part),
        "state": "raised" if raised else "cleared",
        "severity": severity,
        "code": code,
        "bus": bus,
        "device": device,
        "text": text,
        "cause": cause,
        "advice": advice,
        "data": dict(data or {}),
    }
