"""The tables of the site file: what may stand in it, and what each value may be. What holds across them is in rules."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.settings.forms import (
    Address,
    Baud,
    Bit,
    Deadband,
    Decimals,
    Forbidden,
    Format,
    Labels,
    Order,
    Quiet,
    Scale,
    Sentinels,
    Unit,
)
from gateway.settings.quantities import (
    AbsolutePath,
    Broker,
    GatewayId,
    Interval,
    KeepSize,
    Linger,
    Minutes,
    Name,
    PerDay,
    Period,
    PerSecond,
    Prefix,
    StoreSize,
    Timeout,
    Words,
)

TableName = Literal["coil", "discrete", "holding", "input"]
Framing = Literal["rtu", "ascii", "tcp"]
Kind = Literal["gauge", "counter", "state", "alarm", "text", "config"]
Type = Literal[
    "bit", "bits", "u8hi", "u8lo", "u16", "s16", "u32", "s32", "u64", "s64", "f32", "f64", "string", "bcd"
]  # fmt: skip


class Table(BaseModel):
    """A TOML table: unknown keys are errors, and no value is converted silently."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class GatewayTable(Table):
    id: GatewayId
    """Name of this gateway in topics: letters, digits, "-", "_", "."."""
    site: Words = ""
    """Where it stands, for people."""


class ClockTable(Table):
    trust: Literal["kernel", "system"] = "kernel"
    """"kernel": trust the clock when the kernel says it is synchronised. "system": believe it always."""


class UplinkTable(Table):
    brokers: list[Broker] = Field(min_length=1, max_length=8)
    """Addresses, tried in order: mqtts://host:8883."""
    prefix: Prefix = "city"
    """First levels of every topic."""
    format: Literal["native", "native-json"] = "native"
    """How readings are written on the wire."""
    confirm: Literal["puback", "ioc"] = "puback"
    """Who must confirm a batch before it is freed: the broker, or the IOC itself."""
    ca: AbsolutePath = ""
    """File with the certificate of the authority that signed the broker's certificate."""
    cert: AbsolutePath = ""
    """File with this gateway's certificate."""
    key: AbsolutePath = ""
    """File with the private key of the certificate."""
    username: Words = ""
    """User name at the broker, when it does not ask for a certificate."""
    password_file: AbsolutePath = ""
    """File with the password; the password itself never stands here."""
    insecure: bool = False
    """Allow mqtt:// without TLS over a network."""
    window: Annotated[int, Field(ge=1, le=100)] = 20
    """Batches on their way at the same time."""
    keepalive: Minutes = 60.0
    """Sign of life to the broker."""
    health_every: Minutes = 60.0
    """Period of up/health."""
    max_per_second: PerSecond = 0
    """Most that telemetry may add to the link's bytes per second; "0": no limit."""
    max_per_day: PerDay = 0
    """Bytes over the network in 24 hours, beyond which telemetry waits in the store; "0": no limit."""


class StoreTable(Table):
    path: AbsolutePath = "/var/lib/gateway"
    """Directory on a disk that survives a power cut."""
    max_size: StoreSize = 512_000_000
    """Space that unsent readings may take."""
    durability: Literal["bounded", "strict"] = "bounded"
    """"strict": nothing is published before it is on disk."""
    linger: Linger = 1.0
    """A batch closes after this."""
    commit_every: Linger = 1.0
    """What is not acknowledged is on disk this much later."""
    keep_acked: KeepSize = 0
    """Keep acknowledged batches for re-send, up to this size."""


class SerialTable(Table):
    port: AbsolutePath
    """Path of the port, best one of /dev/serial/by-path."""
    baud: Baud = 9600
    """Bits per second, as set on the devices."""
    format: Format = "8N1"
    """Data bits, parity, stop bits, as set on the devices."""
    framing: Literal["rtu", "ascii"] | None = None
    """Modbus RTU (default) or ASCII."""
    rs485: bool = False
    """The kernel switches the direction of the transceiver; most adapters do it themselves."""


class TlsTable(Table):
    """Modbus/TCP Security: both sides show a certificate."""

    ca: AbsolutePath
    """File with the certificate of the authority that signed the device's certificate."""
    cert: AbsolutePath
    """File with the certificate that this gateway shows to the device."""
    key: AbsolutePath
    """File with the private key of the certificate."""


class TcpTable(Table):
    host: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^\S+$")]
    """Name or IP address."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """TCP port; default 502, with tls 802."""
    framing: Framing | None = None
    """Modbus TCP (default), or RTU or ASCII frames over TCP."""
    tls: TlsTable | None = None
    """Modbus/TCP Security: tls = { ca = "/...", cert = "/...", key = "/..." }."""


class OptionsTable(Table):
    """What a device can take."""

    max_registers: Annotated[int, Field(ge=1, le=125)] | None = None
    """Most registers that the device answers in one request."""
    max_bits: Annotated[int, Field(ge=1, le=2000)] | None = None
    """Most coils or discrete inputs in one request."""
    bridge: Annotated[int, Field(ge=0, le=124)] | None = None
    """Most unused registers that may be read to join two requests."""
    single: bool | None = None
    """One point per request."""
    forbidden: Forbidden | None = None
    """Ranges that must never be read: [["holding", 100, 120]]."""
    min_interval: Interval | None = None
    """Time that the device needs between two requests."""
    identify: bool | None = None
    """It says who it is (Modbus function 43/14), and is asked."""


class PointTable(Table):
    name: Name
    """Name of the value, unique in the device."""
    table: TableName
    """Which of the four Modbus tables."""
    at: Annotated[int, Field(ge=0, le=65535)]
    """Protocol address, counted from 0."""
    type: Type | None = None
    """How the value is written; default u16, and bit for coils and discrete inputs."""
    order: Order = ""
    """Order of the bytes on the wire: ABCD (default), CDAB, BADC, DCBA."""
    bit: Bit | None = None
    """A bit of the register: 5, or [1, 3] for three bits from bit 1."""
    length: Annotated[int, Field(ge=1, le=125)] | None = None
    """Registers of a text or BCD number."""
    unit: Unit = "1"
    """UCUM code: V, A, W, kW.h, m3/h, Cel, %."""
    kind: Kind = "gauge"
    """What the value is."""
    every: Period | None = None
    """Period; default: that of the device."""
    scale: Scale = 1.0
    """value = raw * scale + offset."""
    offset: float = 0.0
    """value = raw * scale + offset."""
    decimals: Decimals | None = None
    """Round to so many decimals; default: derived from scale and offset."""
    labels: Labels = Field(default_factory=dict)
    """Text of each code: { "0" = "off", "1" = "on" }."""
    sentinels: Sentinels = Field(default_factory=list)
    """Raw values that mean "no value"."""
    low: float | None = None
    """Smallest plausible value."""
    high: float | None = None
    """Greatest plausible value."""
    deadband: Deadband | None = None
    """Smaller changes are not sent."""
    wraps_at: Annotated[float, Field(gt=0)] | None = None
    """Value at which a counter starts again from zero; default: derived from the type."""
    writable: bool = False
    """Whether the point may be written."""
    read_clears: bool = False
    """Reading resets the value at the device."""
    number: str = ""
    """The manual's own number of the register."""


class OverrideTable(Table):
    """What a site changes of a point of the profile."""

    enabled: bool = True
    """false: do not read this point."""
    every: Period | None = None
    """Period of this point."""
    deadband: Deadband | None = None
    """Smaller changes are not sent."""
    low: float | None = None
    """Smallest plausible value."""
    high: float | None = None
    """Greatest plausible value."""
    unit: Unit | None = None
    """Unit after scale."""
    scale: Scale | None = None
    """Factor of this installation, e.g. litres per pulse."""
    offset: float | None = None
    """Offset of this installation."""
    decimals: Decimals | None = None
    """Round to so many decimals."""
    writable: bool | None = None
    """Allow writing here, if the profile allows it too."""


class DeviceTable(Table):
    name: Name
    """Name of the device, unique at this site."""
    profile: str = ""
    """Device type, e.g. "eastron-sdm630"."""
    driver: str = ""
    """Protocol, for a device without profile: "modbus"."""
    address: Address
    """Unit id on the bus: 1 to 247 on a line (0: all devices, only written), 0 to 255 on Modbus TCP."""
    every: Period = 10.0
    """Period of every point that has none of its own."""
    location: Words = ""
    """Where it stands, for people."""
    quiet: Quiet = Field(default_factory=list)
    """Local times at which it is left alone, at most 8: ["22:00-05:00"]."""
    options: OptionsTable = OptionsTable()
    """Limits of this device, where they differ from its profile."""
    points: dict[str, OverrideTable] = Field(default_factory=dict)
    """Changes to points: points.voltage_l1 = { every = "1s" }."""
    point: list[PointTable] = Field(default_factory=list, max_length=2000)
    """Points written here: [[bus.device.point]]."""


class BusTable(Table):
    name: Name
    """Name of the bus, unique at this site."""
    serial: SerialTable | None = None
    """A serial port..."""
    tcp: TcpTable | None = None
    """... or a TCP connection."""
    framing: Framing | None = None
    """Default: rtu on a serial port, tcp on TCP."""
    timeout: Timeout = 1.0
    """How long a device may take to answer."""
    device: list[DeviceTable] = Field(default_factory=list, max_length=256)
    """[[bus.device]]: the devices."""


class SiteTable(Table):
    gateway: GatewayTable
    """Who this gateway is."""
    clock: ClockTable = ClockTable()
    """When the clock may be believed."""
    uplink: UplinkTable
    """Where readings go."""
    store: StoreTable = StoreTable()
    """Where readings wait."""
    bus: list[BusTable] = Field(default_factory=list, max_length=64)
    """[[bus]]: ports, and the devices on them."""
