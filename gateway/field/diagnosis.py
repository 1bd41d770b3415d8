"""What the exchanges with a device were like, and what that says about the line. Pure: times are passed in.

The signatures are those of RS-485 practice: what a wrong speed, a second device at the same address, swapped wires, a
missing terminator or a transmitter that is switched off too late do to frames.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from drivers.base import CLIPPED, CRC, NOISE, WRONG_FUNCTION, WRONG_LENGTH, WRONG_UNIT, Finding

BOUNDS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
"""Upper bounds of the response-time histogram; a last class holds what is slower."""
TIMEOUT, ECHO, LATE = "timeout", "echo", "late"
KINDS = (TIMEOUT, CRC, NOISE, CLIPPED, WRONG_UNIT, WRONG_FUNCTION, WRONG_LENGTH, LATE, ECHO)

SURE_AFTER = 8
"""Answers after which the learned response time is trusted."""
MARGIN = 3.0
"""A device gets so many times its slowest answer of late, and something on top."""
ON_TOP, ON_TOP_OF_PROBE = 0.150, 0.050
"""Seconds. A probe of a dead device may be cut short: missing its return by one probe costs nothing."""
FADE = 0.9995
"""Of the slowest answer's excess, what is left after each faster one: half after 1400 answers."""


@dataclass(slots=True)
class Record:
    """One device's exchanges since the start. Response times in seconds."""

    histogram: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_MS) + 1))
    counts: Counter[str] = field(default_factory=Counter)
    exchanges: int = 0
    answers: int = 0
    broken: int = 0
    _slowest: float = 0.0
    _doubted: bool = False

    def answered(self, took: float) -> None:
        """A reply came so long after its request."""
        self.exchanges += 1
        self.answers += 1
        self.histogram[bisect_left(BOUNDS_MS, took * 1000)] += 1
        self._slowest = took if took > self._slowest else FADE * self._slowest + (1 - FADE) * took
        self._doubted = False

    def failed(self, *, silent: bool) -> None:
        """No reply came, or none that was whole."""
        self.exchanges += 1
        if silent:
            self.counts[TIMEOUT] += 1
            self._doubted = True
        else:
            self.broken += 1

    def found(self, findings: Iterable[Finding]) -> None:
        """These stood among the bytes that were no answer."""
        self.counts.update(finding.kind for finding in findings)

    def timeout(self, most: float) -> float:
        """Return how long the device may take: learned, `most` until that is sure and after each silence."""
        if self.answers < SURE_AFTER or self._doubted:
            return most
        return min(most, MARGIN * self._slowest + ON_TOP)

    def probe_timeout(self, most: float) -> float:
        """Return how long a dead device may take to come back: what it used to need, `most` when that is unknown."""
        return min(most, MARGIN * self._slowest + ON_TOP_OF_PROBE) if self.answers else most

    @property
    def slowest(self) -> float:
        """The slowest answer of late, in seconds; 0 without answers."""
        return self._slowest

    def percentile_ms(self, share: float) -> int | None:
        """Return the histogram bound under which this share of the answers came; None without answers."""
        rank, seen = share * self.answers, 0
        for bound, count in zip((*BOUNDS_MS, 10 * BOUNDS_MS[-1]), self.histogram, strict=True):
            seen += count
            if count and seen >= rank:
                return bound
        return None

    def summary(self) -> dict[str, Any]:
        """Return it for people and up/health."""
        return {
            "exchanges": self.exchanges,
            "answers": self.answers,
            "p50_ms": self.percentile_ms(0.5),
            "p99_ms": self.percentile_ms(0.99),
            "histogram": list(self.histogram),
            **{kind: self.counts[kind] for kind in KINDS if self.counts[kind]},
        }


class Seen(NamedTuple):
    """What one device did in a while: exchanges and answers, and the kinds of trouble."""

    device: str
    exchanges: int
    answers: int
    counts: Mapping[str, int]


class Cause(NamedTuple):
    """What probably is wrong, in a technician's words. `device` is empty when it concerns the whole line."""

    code: str
    device: str
    text: str
    cause: str
    advice: str


LEAST_TROUBLE = 5
"""Cases in a while below which nothing is concluded."""
_LITTLE = 0.02
"""Every line has a broken frame now and then."""
_MANY = 0.2
"""Two devices that answer together mangle more than this share of the answers."""


def causes(bus: str, seen: Sequence[Seen], line_errors: Mapping[str, int]) -> list[Cause]:
    """Conclude from what the devices of a bus did in a while, and what its UART counted, what is wrong."""
    answers = sum(one.answers for one in seen)
    heard = sum(sum(one.counts.get(kind, 0) for kind in (CRC, NOISE, CLIPPED)) for one in seen)
    if not answers and sum(one.exchanges for one in seen) >= LEAST_TROUBLE:
        if heard >= LEAST_TROUBLE or sum(line_errors.values()) >= LEAST_TROUBLE:
            return [_garbled(bus, line_errors)]
        return [_silent(bus)] if len(seen) > 1 else []
    troubled = [one for one in seen if _share(one, CRC, NOISE) >= _LITTLE and _count(one, CRC, NOISE) >= LEAST_TROUBLE]
    if len(troubled) >= 2 and 2 * len(troubled) >= len(seen):
        return [_noisy(bus, troubled)]
    return [cause for one in seen if (cause := _of_device(bus, one, alone=not _noise_elsewhere(one, seen)))]


def _noise_elsewhere(one: Seen, seen: Sequence[Seen]) -> bool:
    """Whether others have broken frames too: then it is the line, and not an address that two devices have."""
    return any(_share(other, CRC, NOISE) >= _LITTLE for other in seen if other is not one)


def _of_device(bus: str, one: Seen, *, alone: bool) -> Cause | None:
    name = one.device
    mangled = _count(one, CRC, WRONG_LENGTH, NOISE)
    many = mangled >= LEAST_TROUBLE and mangled > _MANY * one.exchanges
    if many and alone and _count(one, CRC) and _count(one, WRONG_LENGTH, NOISE):
        return Cause(
            "duplicate-address",
            name,
            f"answers of {name} on {bus} come mangled and in changing lengths",
            "two devices have the same address and answer together",
            f"disconnect {name}: if its address still answers, the other one must get a free address",
        )
    if _count(one, CLIPPED) >= LEAST_TROUBLE:
        return Cause(
            "reply-clipped",
            name,
            f"the first bytes of the answers of {name} on {bus} are missing",
            "the gateway's own transmitter is switched off too late (driver-enable held too long)",
            "use an adapter with automatic direction, or `rs485 = true` for a port whose driver can switch it; "
            "or let the device wait longer before it answers",
        )
    if _count(one, LATE) >= LEAST_TROUBLE:
        return Cause(
            "reply-late",
            name,
            f"{name} on {bus} answers after its time-out",
            "the device is slower than `timeout` allows, or a converter on the way stores and forwards",
            "raise `timeout` of the bus; look for a converter that is busy with others",
        )
    if _count(one, WRONG_UNIT, WRONG_FUNCTION, WRONG_LENGTH) >= LEAST_TROUBLE:
        return Cause(
            "reply-foreign",
            name,
            f"requests to {name} on {bus} are answered with frames that do not belong to them",
            "another master asks on the same line, or the device does not keep to the protocol",
            "make sure that only one master is connected; check the device type",
        )
    return None


def _count(one: Seen, *kinds: str) -> int:
    return sum(one.counts.get(kind, 0) for kind in kinds)


def _share(one: Seen, *kinds: str) -> float:
    return _count(one, *kinds) / max(one.exchanges, 1)


def _silent(bus: str) -> Cause:
    return Cause(
        "line-silent",
        "",
        f"nothing on {bus} answers",
        "no power, wires A and B swapped, a broken line, or another baud rate or parity than the devices have",
        "check the power of the devices, swap A and B once, measure 120 ohm at both ends, and run `gateway scan`",
    )


def _garbled(bus: str, errors: Mapping[str, int]) -> Cause:
    uart = ", ".join(f"{count} {kind} errors" for kind, count in errors.items() if count)
    parity = errors.get("parity", 0) + errors.get("framing", 0)
    cause = (
        "baud rate or parity differ between the gateway and the devices"
        if parity
        else "baud rate or parity differ between the gateway and the devices, or wires A and B are swapped"
    )
    return Cause(
        "line-garbled",
        "",
        f"devices on {bus} answer, and not one frame is readable" + (f" (the port counts {uart})" if uart else ""),
        cause,
        "run `gateway scan`: it finds speed and parity; then swap A and B once",
    )


def _noisy(bus: str, troubled: Sequence[Seen]) -> Cause:
    names = ", ".join(one.device for one in troubled[:4])
    return Cause(
        "line-noisy",
        "",
        f"{len(troubled)} devices on {bus} have broken frames ({names})",
        "missing termination or bias resistors, a cable beside a power cable, a shield that is not earthed",
        "measure 60 ohm between A and B with power off (120 at each end); earth the shield at one side",
    )
