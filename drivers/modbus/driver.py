"""The Modbus driver: one instance per unit, the conversation without IO."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from drivers.base import Conversation, Exchange, Finding, NoReply, Point, Sample, Step, Talk, Value
from drivers.modbus import explain, pdu, values
from drivers.modbus.ask import Ask, ask_for, ask_range, sampler
from drivers.modbus.functions import Functions
from drivers.modbus.holes import Holes
from drivers.modbus.late import Fetch
from drivers.modbus.plan import Limits, Range, crosses, plan, span
from drivers.modbus.refusals import Refusals
from drivers.modbus.register import BIT_TABLES, READ_FUNCTION, Register, register_of
from drivers.modbus.reply import reply_to
from drivers.modbus.unit import Unit

BRIDGE = {"rtu": 16, "ascii": 10, "tcp": 32}
"""Registers of a hole that are cheaper to read along than another transaction.

RTU: 8 + 5 bytes of frame, 2 x 3.5 characters of silence and the device's turnaround, taken as 12 characters (12 ms at
9600 baud, less than most devices need): 32 characters, 2 per register. ASCII: 17 + 11 characters and the same
turnaround, 4 per register. TCP: a round trip, while a register costs next to nothing; the bound is for the RTU line
that is often behind it.
"""

_CACHED_PLANS = 256
_NEVER = (pdu.ILLEGAL_FUNCTION, pdu.ILLEGAL_ADDRESS, pdu.ILLEGAL_VALUE)
_ABSENT = (pdu.PATH_UNAVAILABLE, pdu.TARGET_SILENT)


class Modbus(Functions):
    """Reads and writes one Modbus unit.

    `unit` is 0..255; 0 is the broadcast address of a serial line, where writes are not answered and nothing is read.
    `framing` is rtu (also over TCP), tcp or ascii. `forbidden` are ranges (table, first, how many) that no request
    may reach across; `holes` are those which the device taught, to be kept and given back after a restart.
    """

    def __init__(
        self,
        unit: int,
        framing: str = "rtu",
        *,
        max_registers: int = 125,
        max_bits: int = 2000,
        bridge: int | None = None,
        single: bool = False,
        forbidden: Sequence[Sequence[str | int]] = (),
        holes: Sequence[Sequence[str | int]] = (),
    ) -> None:
        super().__init__(Unit(unit, framing))
        if not 1 <= max_registers <= 125:
            raise ValueError(f"max_registers {max_registers} is outside 1..125")
        if not 1 <= max_bits <= 2000:
            raise ValueError(f"max_bits {max_bits} is outside 1..2000")
        reach = BRIDGE[framing] if bridge is None else bridge
        self._limits = Limits(max_registers, max_bits, reach, single, _ranges(forbidden))
        self._holes = Holes(_ranges(holes))
        self._clears: set[Range] = set()
        self._refusals = Refusals()
        self.exceptions: Counter[int] = Counter()
        """How often the device refused something, by exception code."""
        self._plans: dict[tuple[int, ...], tuple[Sequence[Point], list[Ask], list[Point]]] = {}
        self._fetch = Fetch(self.unit, self._other)

    @property
    def holes(self) -> list[list[str | int]]:
        """What the device refused, as [table, first, how many]; how many = 0 is a border that it does not read across.

        A point that stands in one is asked for alone; the entry goes when the point is answered. All are tried again
        from time to time.
        """
        return [list(hole) for hole in self._holes.ranges]

    def plan(self, points: Sequence[Point]) -> list[tuple[Point, ...]]:
        """Group points so that each group is one request, with what the device has taught so far.

        Left out are points that the device has refused for long and that are not asked for now: `poll` knows them.
        """
        return [ask.points for ask in self._prepared(points)[0]]

    def poll(self, points: Sequence[Point], now: float) -> Conversation:
        """Read points, in one request if they are a group of `plan`. Every point gets exactly one sample.

        A refused point is bad:exception-<code>, without a request while it rests. A bad frame is asked for once more,
        unless reading clears the value; silence is not. NoReply also when a gateway says that the device is silent.
        """
        self._fetch.now = now
        if now >= self._refusals.wake or now >= self._holes.wake:
            self._refusals.wake_up(now)
            self._holes.wake_up(now)
            self._plans.clear()
        asks, resting = self._prepared(points)
        samples = self._refusals.samples(resting) if resting else []
        for ask in asks:
            samples += yield from self._read(ask)
        return samples

    def write(self, point: Point, value: Value) -> Conversation:
        """Set a point, once: a failure is never repeated here. Returns its sample as the device confirmed it.

        ValueError at once when the value cannot be written; Refused when the device says no. Whether the point may be
        written at all, and within which limits, is for the caller to know.
        """
        register = register_of(point)
        if register.table not in ("coil", "holding"):
            raise ValueError(f"{point.name}: a {register.table} cannot be written, only a coil or holding register can")
        raw = values.raw_of(point, value)
        data = values.encode(register, raw)
        if self.unit.broadcast and register.field:
            raise ValueError(f"{point.name}: part of a register cannot be broadcast, it has to be read first")
        return self._write(point, raw, data)

    def read_raw(self, table: str, first: int, count: int) -> Talk[bytes]:
        """Return the data bytes of `count` bits or registers as they came. Refused when the device says no.

        ValueError at once when there is no such range, or nothing answers the address.
        """
        self.unit.expect_answers()
        most = 2000 if table in BIT_TABLES else 125
        if table not in READ_FUNCTION or first < 0 or not 1 <= count <= most or first + count > 65536:
            raise ValueError(f"{table} {first}, {count} of them: at most {most} at once, addresses 0..65535")
        return self._raw(ask_range(self.unit, (table, first, count)))

    def explain(self, exchange: Exchange, heard: bytes) -> list[Finding]:
        """Name what stands in `heard`, bytes that arrived for `exchange` without its reply and its echo. Pure."""
        return explain.explain(self.unit, exchange, heard)

    # Reading ----------------------------------------------------------------------------------------------------------

    def _read(self, ask: Ask) -> Conversation:
        """Ask, decode; split the request when the device refuses its range."""
        reply = yield from self._fetch.reply(ask)
        code = pdu.exception(reply)
        if code is not None:
            return (yield from self._refused(ask, code))
        if not ask.known:
            self._refusals.answered(ask.points)
            ask.known = True
        if self._holes.ranges and (len(ask.points) == 1 or ask.clears) and self._holes.forget(ask.range):
            self._plans.clear()
        return ask.take(reply)

    def _refused(self, ask: Ask, code: int) -> Conversation:
        """Split the request where that may help, else remember what was refused."""
        self.exceptions[code] += 1
        if code in _ABSENT:
            raise NoReply(str(pdu.refused(ask.exchange.label, code)), f"bad:exception-{code}")
        if code in _NEVER:
            if len(ask.points) > 1 and not ask.clears:
                return (yield from self._split(ask))
            self._learn(ask.range)
            rests = [self._refusals.refused(point, code, self._fetch.now) for point in ask.points]
            if any(rests):
                self._plans.clear()
        return [Sample(point.name, None, f"bad:exception-{code}") for point in ask.points]

    def _split(self, ask: Ask) -> Conversation:
        """Read a refused group in parts: without its holes, else by halves. Remember what lies between good parts."""
        parts = plan(ask.points, replace(self._limits, bridge=0))
        if len(parts) == 1:
            half = len(ask.points) // 2
            parts = [ask.points[:half], ask.points[half:]]
        samples: list[Sample] = []
        for part in parts:
            samples += yield from self._read(ask_for(self.unit, part))
        if not any(got.quality.startswith("bad:exception") for got in samples):
            for (table, first, count), (_, behind, _) in pairwise(span(part) for part in parts):
                if behind >= first + count:
                    self._learn((table, first + count, behind - first - count))
        return samples

    def _learn(self, hole: Range) -> None:
        if self._holes.learn(hole, self._fetch.now):
            self._plans.clear()

    def _raw(self, ask: Ask) -> Talk[bytes]:
        """The data bytes of a good reply. A range with a value that reading clears is asked for once."""
        ask.clears = crosses(tuple(self._clears), *ask.range)
        reply = yield from self._fetch.reply(ask)
        code = pdu.exception(reply)
        if code is not None:
            raise pdu.refused(ask.exchange.label, code)
        return reply[2:]

    # Preparing --------------------------------------------------------------------------------------------------------

    def _prepared(self, points: Sequence[Point]) -> tuple[list[Ask], list[Point]]:
        """The requests for these points, and those that rest. Cached: the same points come round with every period."""
        key = tuple(map(id, points))
        known = self._plans.get(key)
        if known is None:
            self.unit.expect_answers()
            clears = {span((point,)) for point in points if point.read_clears}
            if len(self._plans) >= _CACHED_PLANS or not clears <= self._clears:
                self._plans.clear()
            self._clears |= clears
            awake = [point for point in points if not self._refusals.rests(point)]
            resting = [point for point in points if self._refusals.rests(point)]
            # The points are kept with their ids: while they live here, no other object gets these ids.
            known = tuple(points), [ask_for(self.unit, group) for group in plan(awake, self._lawful())], resting
            self._plans[key] = known
        return known[1:]

    def _lawful(self) -> Limits:
        """What one request may be, with what the device has taught."""
        return replace(self._limits, avoid=(*self._limits.avoid, *self._holes.ranges, *self._clears))

    def _other(self, ask: Ask, sizes: Collection[int]) -> Ask | None:
        """A harmless read whose reply's size is not among these: of one of the points, or of a little more.

        What reading clears is not read for that: then it is any other read that has been planned.
        """
        return next((other for other in self._others(ask) if other.reply.size not in sizes), None)

    def _others(self, ask: Ask) -> Iterator[Ask]:
        if ask.clears:
            yield from (other for _, asks, _ in self._plans.values() for other in asks if not other.clears)
        elif not self._limits.single:
            if len(ask.points) > 1:
                yield from (ask_for(self.unit, (point,)) for point in ask.points)
            table, first, count = ask.range
            limits = self._lawful()
            more, most = (8, limits.max_bits) if table in BIT_TABLES else (1, limits.max_registers)
            wider = count + more
            if wider <= most and first + wider <= 65536 and not crosses(limits.avoid, table, first, wider):
                yield ask_range(self.unit, (table, first, wider))

    # Writing ----------------------------------------------------------------------------------------------------------

    def _write(self, point: Point, raw: values.Raw, data: bytes) -> Conversation:
        register = register_of(point)
        if register.field:  # its other bits keep their state, and nobody else comes between
            old = yield from self._raw(ask_range(self.unit, (register.table, register.at, 1), hold=True))
            data = values.merge(register, old, raw)
        for request in _write_requests(register, data):
            code, label = yield from self._command(request, register)
            if code != pdu.ILLEGAL_FUNCTION:
                break
        if code is not None:
            self.exceptions[code] += 1
            raise pdu.refused(label, code)
        return [sampler(point)(raw)]

    def _command(self, request: bytes, register: Register) -> Generator[Step, bytes, tuple[int | None, str]]:
        """Send a write; its exception code (None: done) and its label."""
        exchange = self.unit.exchange(request, reply_to(request), f"write {register.table} {register.at}")
        frame = yield exchange
        return (pdu.exception(self.unit.unwrap(frame)) if exchange.find else None), exchange.label


def _write_requests(register: Register, data: bytes) -> list[bytes]:
    """The single write and, for devices that do not know it, the multiple one: exception 1 means nothing was done."""
    if register.table == "coil":
        on = data != b"\0"
        return [pdu.write_coil(register.at, on), pdu.write_coils(register.at, [on])]
    several = pdu.write_registers(register.at, data)
    return [several] if register.count > 1 else [pdu.write_register(register.at, data), several]


def _ranges(ranges: Sequence[Sequence[str | int]]) -> tuple[Range, ...]:
    """Ranges as they come from a file, checked."""
    checked = []
    for table, first, count in ranges:
        if table not in READ_FUNCTION:
            raise ValueError(f"table {table!r} is unknown: use {', '.join(READ_FUNCTION)}")
        checked.append((str(table), int(first), int(count)))
    return tuple(checked)
