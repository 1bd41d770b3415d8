"""The drivers' contract: what a protocol offers to the gateway, and the values both speak in.

A driver is a conversation without IO. It yields what to put on the wire, is sent the reply, and returns samples.
It never opens a port, never asks for the time and never sleeps: the link owns time, the poller owns the schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

Value = float | int | bool | str | None

GOOD = "good"
BAD_TIMEOUT = "bad:timeout"
BAD_CRC = "bad:crc"
BAD_SENTINEL = "bad:sentinel"
BAD_DECODE = "bad:decode"
UNCERTAIN_RANGE = "uncertain:range"
UNCERTAIN_RESTARTED = "uncertain:restarted"


class Sample(NamedTuple):
    """A point's decoded value and quality: no time, no device. `value` is None when the quality is bad."""

    point: str
    value: Value
    quality: str = GOOD


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a device, finished: profile and site file are already merged.

    value = round(raw * scale + offset, decimals); `sentinels` are raw values that mean "no value"; `every` is in
    seconds, None means as often as the bus allows; `wraps_at` is the value at which a counter starts again from zero,
    None when it does not wrap; `read_clears`: reading resets it, so it is never asked twice for one reading; `where` is
    the driver's own address of the value.
    """

    name: str
    where: object
    unit: str = "1"
    kind: str = "gauge"
    every: float | None = 10.0
    scale: float = 1.0
    offset: float = 0.0
    decimals: int | None = None
    labels: Mapping[int, str] = field(default_factory=dict)
    sentinels: frozenset[float] = frozenset()
    low: float | None = None
    high: float | None = None
    deadband: float | None = None
    wraps_at: float | None = None
    writable: bool = False
    read_clears: bool = False


class Frame(NamedTuple):
    """The reply stands in buffer[start:end]."""

    start: int
    end: int


class Reject(NamedTuple):
    """The first `size` bytes of the buffer are not ours: noise, or good frames of others, `foreign` bytes in all."""

    size: int
    foreign: int = 0


Find = Callable[[bytes | bytearray], Frame | Reject | None]
"""Looks for the reply in what has arrived. Pure. None: wait for more."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its reply on a link.

    `find` None means that no reply is expected (a broadcast). `reply_size` is the length in bytes of a good reply: the
    link derives wire time from it. `min_wait` is a floor in seconds for the response time-out, and the rest that a
    broadcast needs. `hold` keeps others off the bus until the next step. `mirrored`: a good reply may be the very bytes
    of the request, so that content cannot tell it from an echo. `label` says in a technician's words what is asked.
    """

    request: bytes
    find: Find | None
    reply_size: int
    label: str
    min_wait: float = 0.0
    hold: bool = False
    mirrored: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing is sent on this bus for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Line:
    """The serial line changes its speed and format, e.g. Line(9600, "8E1")."""

    baud: int
    format: str


Step = Exchange | Pause | Line
T = TypeVar("T")
Talk = Generator[Step, bytes, T]
"""Yields steps, is sent the reply frame (b"" where none is due), returns a result.

NoReply or BadFrame are thrown in where the reply failed: only the driver knows whether a retry is safe. What it does
not catch reaches the poller, which charges the device.
"""
Conversation = Talk[list[Sample]]


class BusError(Exception):
    """Something went wrong between gateway and device."""


class NoReply(BusError):
    """The device did not answer in time, or what stands before it says so.

    `quality` is that of its points; `heard` is what others said meanwhile, as far as it was kept.
    """

    def __init__(self, text: str = "no answer", quality: str = BAD_TIMEOUT, heard: bytes = b"") -> None:
        super().__init__(text)
        self.quality = quality
        self.heard = heard


class BadFrame(BusError):
    """Bytes came, but no frame that answers the request. `heard` is what came, as far as it was kept."""

    def __init__(self, text: str = "no frame", heard: bytes = b"") -> None:
        super().__init__(text)
        self.heard = heard


class Refused(BusError):
    """The device answered that it will not: `code` is the protocol's own number."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Driver(Protocol):
    """What every polled protocol offers. One instance per device; the state of the device lives in it."""

    def plan(self, points: Sequence[Point]) -> list[tuple[Point, ...]]:
        """Group points so that each group is answered by one exchange, in the fewest exchanges.

        Points that the device is known to refuse may be left out for a while: polling them then costs no exchange.
        """

    def poll(self, points: Sequence[Point], now: float) -> Conversation:
        """Read one group. Every point gets exactly one sample. `now` is monotonic seconds."""


class Finding(NamedTuple):
    """What stood among bytes that were no answer, e.g. ("wrong-unit", 7). `unit` is who sent it, if that is known."""

    kind: str
    unit: int | None = None


CRC = "crc"
"""A frame of the right form and length whose checksum is wrong."""
NOISE = "noise"
"""Bytes that belong to no frame."""
CLIPPED = "clipped"
"""A good reply whose first bytes are missing."""
WRONG_UNIT = "wrong-unit"
"""A good frame of another unit."""
WRONG_FUNCTION = "wrong-function"
"""A good frame of the unit that was asked, answering another kind of request."""
WRONG_LENGTH = "wrong-length"
"""A good frame of the unit that was asked, with another amount of data."""


@runtime_checkable
class Explains(Protocol):
    """A driver that can name what the link has skipped."""

    def explain(self, exchange: Exchange, heard: bytes) -> list[Finding]:
        """Name what stands in `heard`, bytes that arrived for `exchange` without its reply and its echo. Pure."""


@runtime_checkable
class Counts(Protocol):
    """A driver that counts how often its device said no, by the protocol's own code."""

    @property
    def exceptions(self) -> Mapping[int, int]: ...


@runtime_checkable
class Learns(Protocol):
    """A driver that learns what its device refuses; what it learned is given back to the next run as `holes=`."""

    @property
    def holes(self) -> list[list[str | int]]: ...


@runtime_checkable
class Writes(Protocol):
    """A driver that can set a point."""

    def write(self, point: Point, value: Value) -> Conversation:
        """Set a point once; ValueError at once when it cannot take the value, Refused when the device says no."""


@runtime_checkable
class Identifies(Protocol):
    """A driver that can ask a device who it is."""

    def identify(self) -> Talk[dict[str, str]]:
        """Return what the device says of itself, e.g. {"vendor": ..., "product": ..., "revision": ...}; {}: nothing."""


def sample(point: Point, raw: float | None) -> Sample:
    """Turn a raw number into the point's sample: sentinel, scale, offset, label, range.

    A raw None is a value that could not be decoded. Labels turn a known code into its text; an unknown code stays a
    number and becomes uncertain.
    """
    if raw is None:
        return Sample(point.name, None, BAD_DECODE)
    if raw in point.sentinels or isnan(raw):
        return Sample(point.name, None, BAD_SENTINEL)
    if point.labels:
        text = point.labels.get(int(raw))
        return Sample(point.name, int(raw), UNCERTAIN_RANGE) if text is None else Sample(point.name, text)
    value: float = raw
    if point.scale != 1.0 or point.offset:
        value = raw * point.scale + point.offset
    if point.decimals is not None and isinstance(value, float):
        value = round(value, point.decimals)
    if (point.low is not None and value < point.low) or (point.high is not None and value > point.high):
        return Sample(point.name, value, UNCERTAIN_RANGE)
    return Sample(point.name, value)
