"""The drivers' contract: what a protocol offers to the gateway, and the values both speak in.

A driver is a conversation without IO. It yields what to put on the wire, is sent the reply, and returns samples.
It never opens a port, never asks for the time and never sleeps: the link owns time, the poller owns the schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan
from typing import NamedTuple, Protocol

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
    None when it does not wrap; `where` is the driver's own address of the value.
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


class Frame(NamedTuple):
    """The reply stands in buffer[start:end]."""

    start: int
    end: int


class Reject(NamedTuple):
    """The first `size` bytes of the buffer are not ours: noise, an echo, another unit's frame."""

    size: int


Find = Callable[[bytes | bytearray], Frame | Reject | None]
"""Looks for the reply in what has arrived. Pure. None: wait for more."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its reply on a link.

    `find` None means that no reply is expected (a broadcast). `reply_size` is the length in bytes of a good reply: the
    link derives wire time from it. `min_wait` is a floor in seconds for the response time-out. `hold` keeps others off
    the bus until the next step. `label` says in a technician's words what is asked.
    """

    request: bytes
    find: Find | None
    reply_size: int
    label: str
    min_wait: float = 0.0
    hold: bool = False


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
Conversation = Generator[Step, bytes, list[Sample]]
"""Yields steps, is sent the reply frame (b"" where none is due), returns samples.

NoReply or BadFrame are thrown in where the reply failed: only the driver knows whether a retry is safe. What it does
not catch reaches the poller, which charges the device.
"""


class BusError(Exception):
    """Something went wrong between gateway and device."""


class NoReply(BusError):
    """The device did not answer in time."""


class BadFrame(BusError):
    """Bytes came, but no frame that answers the request."""


class Refused(BusError):
    """The device answered that it will not: `code` is the protocol's own number."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Driver(Protocol):
    """What every polled protocol offers. One instance per device; the state of the device lives in it."""

    def plan(self, points: Sequence[Point]) -> list[tuple[Point, ...]]:
        """Group points so that each group is answered by one exchange, in the fewest exchanges. Pure."""

    def poll(self, points: Sequence[Point], now: float) -> Conversation:
        """Read one group. Every point gets exactly one sample. `now` is monotonic seconds."""


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
