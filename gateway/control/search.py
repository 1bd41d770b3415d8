"""One scan at work: asks, listens, concludes, and tells what it found."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from drivers.base import (
    CRC,
    WRONG_LENGTH,
    WRONG_UNIT,
    BadFrame,
    BusError,
    Exchange,
    Finding,
    Line,
    NoReply,
    Refused,
    Talk,
)
from drivers.modbus.explain import explain
from drivers.modbus.register import Register
from gateway.control import identity
from gateway.control.attempts import Attempt, Attempts, lines
from gateway.control.findings import Tally, find, setting
from gateway.errors import LinkError
from gateway.field.cost import exchange_seconds
from gateway.field.diagnosis import LATE
from gateway.field.link import QUIET_GAP
from gateway.field.poller import Poller
from gateway.field.talks import Partner
from gateway.field.timeline import demand
from gateway.model import Bus, SerialPort
from gateway.settings import Factory, Signature

if TYPE_CHECKING:
    from gateway.control.desk import Desk

FIRST, SHORTEST, LONGEST = 0.1, 0.05, 0.25
"""Seconds that a unit may take to answer: before anybody has; then at least and at most. Slower ones are heard late."""
MARGIN, ON_TOP, SURE_AFTER = 2.0, 0.03, 3
"""Once so many have answered, a unit gets so many times the slowest answer and something on top."""
TCP_SHORTEST = 0.3
"""Over TCP a late answer is not heard, and a gateway may first wait for the line behind it."""
RECENT = 8
"""A frame of a unit that was asked so many attempts ago at most is its late answer; of another, another master's."""
TRIES = 3
"""So often is a unit asked whose answer comes mangled."""
PROGRESS_EVERY = 0.25
LOST = 5
"""So often may the port be lost before the scan ends. Some devices close the connection on a wrong unit."""
EVERYWHERE = 6
"""A TCP host that answers as so many units, and has missed none, is one device that does not look at the unit."""
LEAST_SHARE = 0.05
"""Of the time of a bus that is being polled, at least so much is for the scan."""

T = TypeVar("T")


class Wish(NamedTuple):
    """What a scan is asked for; `baud` and `format` None: whatever it takes. `budget` in seconds."""

    baud: int | None
    format: str | None
    units: Sequence[int]
    budget: float


class Knowledge(NamedTuple):
    """What profiles tell of devices."""

    signatures: Mapping[str, Sequence[Signature]]
    factories: Sequence[Factory]


class Heard(NamedTuple):
    """What came of asking a unit. `mangled`: how often its answer was; `right_speed`: though parts were readable."""

    answered: bool = False
    exception: int | None = None
    mangled: int = 0
    right_speed: bool = False
    others: frozenset[int] = frozenset()
    """Whose frames came meanwhile."""


class Search:
    """One scan of one bus."""

    def __init__(self, desk: Desk, poller: Poller, wish: Wish, knowledge: Knowledge) -> None:
        bus = poller.bus
        self._bus, self._talks = bus, poller.talks
        self._now = desk.clock.monotonic
        self._began = self._now()
        self._deadline = self._began + wish.budget
        self._signatures = knowledge.signatures
        polled = [unit for unit in poller.units if unit.due]
        self._polled = {unit.device.address for unit in polled}
        self._share = max(LEAST_SHARE, (1 - demand(bus)) / 2) if polled else 1.0
        self._answering = [unit for unit in polled if unit.record.answers and not unit.health.dead]
        self._attempts = _attempts(bus, wish, knowledge.factories)
        self._reads = {device.address: place for device in bus.devices if (place := _first_read(device.points))}
        self._recent: deque[Attempt] = deque(maxlen=RECENT)
        self._asked: deque[tuple[int, Partner]] = deque(maxlen=RECENT)
        self._messages: deque[dict[str, Any]] = deque()
        self._told: set[str] = set()
        self._found: list[dict[str, Any]] = []
        self._tally = Tally()
        self._lost = 0
        self._slowest = 0.0

    async def run(self) -> AsyncIterator[dict[str, Any]]:
        """Ask one unit after the other until all are asked or the budget is used up."""
        self._list_answering()
        told = float("-inf")
        for attempt in self._attempts:
            began = self._now()
            if began >= self._deadline:
                self._tally.left += 1
                break
            if began - told >= PROGRESS_EVERY:
                told = began
                self._say("progress", self._progress(attempt))
            await self._try(attempt)
            while self._messages:
                yield self._messages.popleft()
            await asyncio.sleep((self._now() - began) * (1 / self._share - 1))  # the polling has its share
        self._tally.left += sum(many for _, many in self._attempts.left())
        self._tally.seconds = self._now() - self._began
        self._say("done", asdict(self._tally))
        while self._messages:
            yield self._messages.popleft()

    # One attempt ------------------------------------------------------------------------------------------------------

    async def _try(self, attempt: Attempt) -> None:
        """Ask a unit, and whoever has answered late meanwhile."""
        try:
            heard = await self._ask(attempt, self._patience())
        except BusError as error:  # the line cannot be set so
            self._attempts.drop(attempt.line)
            self._tally.skipped.append(setting(attempt.line))
            self._note(f"settings that this port cannot do are left out: {error}", once="left out")
            return
        self._tally.asked += 1
        self._recent.append(attempt)
        for who in sorted((heard.others | self._late()) - {one["unit"] for one in self._found} - self._polled):
            late = Attempt(attempt.line, who)
            if late in self._recent:
                await self._ask(late, max(self._bus.timeout, LONGEST))
            else:
                self._note(f"unit {who} answers somebody else: another master asks on this line. Disconnect it to scan")

    def _late(self) -> set[int]:
        """Units whose answer came when they were given up already; each is told once."""
        late = [one for one in self._asked if one[1].record.counts[LATE]]
        for one in late:
            self._asked.remove(one)
        return {unit for unit, _ in late}

    async def _ask(self, attempt: Attempt, timeout: float) -> Heard:
        """Ask a unit and conclude; when the port is lost, once more. LinkError when it never was usable, or often."""
        partner = Partner(f"unit {attempt.unit}", attempt.unit)
        self._asked.append((attempt.unit, partner))
        for again in (False, True):
            try:
                heard = await self._probe(attempt, partner, timeout)
            except LinkError:
                self._lost += again
                if not self._tally.asked or self._lost > LOST:
                    raise
                await asyncio.sleep(1.0)
            else:
                await self._conclude(attempt, partner, heard)
                return heard
        return Heard()

    async def _probe(self, attempt: Attempt, partner: Partner, timeout: float) -> Heard:
        unit = identity.Stranger(attempt.unit, self._bus.framing)
        findings: list[Finding] = []

        def note(exchange: Exchange, heard: bytes) -> Sequence[Finding]:
            found = explain(unit, exchange, heard)
            findings.extend(found)
            return found

        partner.explain = note
        mangled, answered, exception = 0, False, None
        while mangled < TRIES:
            try:
                await self._hold(attempt, identity.read(unit, *self._reads.get(unit.number, ())), partner, timeout, 0.0)
                answered = True
            except Refused as error:
                answered, exception = error.code not in identity.GATEWAY_ALONE, error.code
            except NoReply:
                pass
            except BadFrame:
                mangled += 1
                continue
            break
        right_speed = any(finding.kind in (CRC, WRONG_LENGTH) for finding in findings)
        exchange = next(identity.read(unit))
        assert isinstance(exchange, Exchange)
        findings += explain(unit, exchange, self._talks.link.strays())
        others = frozenset(who for kind, who in findings if kind == WRONG_UNIT and who is not None)
        return Heard(answered, exception, mangled, right_speed, others)

    async def _hold(self, attempt: Attempt, talk: Talk[T], partner: Partner, timeout: float, quiet_gap: float) -> T:
        """Have a conversation held at the attempt's setting of the line."""
        line = attempt.line
        if isinstance(self._bus.port, SerialPort) and line == own_line(self._bus.port):
            line = None
        return await self._talks.ask(_at(line, talk), partner, timeout, quiet_gap)

    # What came of it --------------------------------------------------------------------------------------------------

    async def _conclude(self, attempt: Attempt, partner: Partner, heard: Heard) -> None:
        line, unit = attempt
        if heard.answered:
            self._attempts.found(attempt)
            self._slowest = max(self._slowest, partner.record.slowest)
            found = await self._meet(attempt, partner, heard)
            self._found.append(found)
            self._say("found", found)
            self._stop_when_everywhere(attempt)
        elif heard.exception is not None:
            self._note(f"a Modbus gateway answers for unit {unit}: the line behind it has no such unit", once="gateway")
        elif heard.mangled and (heard.right_speed or any(_line_of(one) == line for one in self._found)):
            self._attempts.found(attempt)
            self._tally.mangled.append(unit)
            self._note(
                f"unit {unit} at {setting(line)} answers, but mangled each time: two devices probably have this "
                "address. Disconnect one of them, give the other a free address, and scan again"
            )
        elif heard.mangled:
            self._attempts.garbled(attempt)
            self._tally.garbled[setting(line)] = unit
            self._note(
                f"something answers when unit {unit} is asked at {setting(line)}, and cannot be read: it probably has "
                "another speed or parity, which come next",
                once=setting(line),
            )

    async def _meet(self, attempt: Attempt, partner: Partner, heard: Heard) -> dict[str, Any]:
        """Find out what a device is that has answered."""
        unit = identity.Stranger(attempt.unit, self._bus.framing)
        ms = round(partner.record.slowest * 1000)

        async def answer(talk: Talk[T]) -> T | None:
            timeout = max(partner.record.probe_timeout(self._bus.timeout), self._patience())
            try:
                return await self._hold(attempt, talk, partner, timeout, QUIET_GAP)
            except (Refused, NoReply, BadFrame, LinkError):  # some close the connection on what they do not know
                return None

        identified = await identity.name(unit, answer)
        profiles = await identity.candidates(unit, self._signatures, answer)
        shared = partner.record.broken > 1
        if shared:
            self._note(f"unit {unit.number}: several answers were mangled: do two devices have this address?")
        return find(self._bus, attempt, identified, profiles, ms=ms, exception=heard.exception, shared=shared)

    def _list_answering(self) -> None:
        """What the agent polls and hears is known: it is not asked."""
        port = self._bus.port
        line = own_line(port) if isinstance(port, SerialPort) else None
        for unit in self._answering:
            attempt = Attempt(line, unit.device.address)
            profiles = [{"profile": unit.device.profile, "matched": []}] if unit.device.profile else []
            found = find(self._bus, attempt, (unit.identity, ""), profiles, ms=unit.record.percentile_ms(0.5))
            self._found.append(found)
            self._say("found", found)
            self._attempts.found(attempt)

    def _stop_when_everywhere(self, attempt: Attempt) -> None:
        hits = len(self._found) - len(self._answering)
        if attempt.line is None and hits == self._tally.asked + 1 == EVERYWHERE:
            self._attempts.drop(None)
            self._note("it answers whatever unit is asked: this is one device. Any unit does, 1 is usual")

    # Telling ----------------------------------------------------------------------------------------------------------

    def _say(self, kind: str, body: object) -> None:
        self._messages.append({kind: body})

    def _note(self, text: str, once: str = "") -> None:
        """Tell a thing, once."""
        if (once or text) not in self._told:
            self._told.add(once or text)
            self._say("note", text)

    def _progress(self, attempt: Attempt) -> dict[str, Any]:
        left = self._attempts.left()
        needed = self._seconds(attempt.line) + sum(many * self._seconds(line) for line, many in left)
        return {
            "unit": attempt.unit,
            "setting": setting(attempt.line),
            "asked": self._tally.asked,
            "of": self._tally.asked + 1 + sum(many for _, many in left),
            "left_s": round(min(needed / self._share, self._deadline - self._now()), 1),
            "found": len(self._found),
        }

    def _seconds(self, line: Line | None) -> float:
        """What a unit that does not answer costs."""
        port = self._bus.port
        if isinstance(port, SerialPort) and line is not None:
            port = replace(port, baud=line.baud, format=line.format)
        exchange = next(identity.read(identity.Stranger(1, self._bus.framing)))
        assert isinstance(exchange, Exchange)
        return exchange_seconds(exchange, port, self._patience())

    def _patience(self) -> float:
        """How long a unit may take, from who has answered so far. The link adds what the bytes need."""
        sure = len(self._found) >= SURE_AFTER
        learned = MARGIN * self._slowest + ON_TOP
        if not isinstance(self._bus.port, SerialPort):
            return max(TCP_SHORTEST, learned) if sure else max(TCP_SHORTEST, self._bus.timeout)
        return min(max(SHORTEST if sure else FIRST, learned), LONGEST)


def own_line(port: SerialPort) -> Line:
    """The setting of the line in the site file."""
    return Line(port.baud, port.format)


def _attempts(bus: Bus, wish: Wish, factories: Sequence[Factory]) -> Attempts:
    expected = [device.address for device in bus.devices]
    shipped = list(dict.fromkeys(factory.address for factory in factories if factory.address))
    if not isinstance(bus.port, SerialPort):
        return Attempts([None], wish.units, [255, 0, 1, *expected, *shipped])
    at_factory = [Line(factory.baud, factory.format) for factory in factories]
    return Attempts(lines(own_line(bus.port), at_factory, wish.baud, wish.format), wish.units, [*expected, *shipped])


def _first_read(points: Sequence[Any]) -> tuple[str, int, int] | None:
    """What a device of the site file is asked for: the first of its points that reading does not change."""
    for point in points:
        if isinstance(point.where, Register) and not point.read_clears:
            return point.where.table, point.where.at, point.where.count
    return None


def _at(line: Line | None, talk: Talk[T]) -> Talk[T]:
    """Hold a conversation at another setting of the line."""
    if line is not None:
        yield line
    return (yield from talk)


def _line_of(found: Mapping[str, Any]) -> Line | None:
    return Line(found["baud"], found["format"]) if found["baud"] else None
