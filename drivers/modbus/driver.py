"""The Modbus driver: one instance per unit, the conversation without IO."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import isfinite

from drivers.base import BadFrame, Conversation, Exchange, NoReply, Point, Sample, Step, Value, sample
from drivers.modbus import pdu, values
from drivers.modbus.adu import FRAMINGS, Reply
from drivers.modbus.plan import Limits, Range, crosses, plan, span
from drivers.modbus.register import BIT_TABLES, READ_FUNCTION, Register, register_of

BRIDGE = {"rtu": 16, "ascii": 10, "tcp": 32}
"""Registers of a hole that are cheaper to read along than another transaction.

RTU: 8 + 5 bytes of frame, 2 x 3.5 characters of silence and the device's turnaround, taken as 12 characters (12 ms at
9600 baud, less than most devices need): 32 characters, 2 per register. ASCII: 17 + 11 characters and the same
turnaround, 4 per register. TCP: a round trip, while a register costs next to nothing; the bound is for the RTU line
that is often behind it.
"""

LATE = 10.0
"""Seconds after which a reply that was given up is not expected any more."""

_CACHED_PLANS = 256
_ILLEGAL = (pdu.ILLEGAL_ADDRESS, pdu.ILLEGAL_VALUE)

Take = Callable[[bytes], Sample]
Talk = Generator[Step, bytes, bytes]
"""A part of a conversation that ends with a reply PDU."""


@dataclass(frozen=True, slots=True)
class _Ask:
    """One request, prepared: what goes out, what comes back and what the PDU means."""

    points: tuple[Point, ...]
    range: Range
    request: bytes
    reply: Reply
    exchange: Exchange
    takes: tuple[Take, ...] = ()


class Modbus:
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
        if framing not in FRAMINGS:
            raise ValueError(f"framing {framing!r} is unknown: use {', '.join(FRAMINGS)}")
        if not 0 <= unit <= 255:
            raise ValueError(f"unit {unit} is outside 0..255")
        if not 1 <= max_registers <= 125:
            raise ValueError(f"max_registers {max_registers} is outside 1..125")
        if not 1 <= max_bits <= 2000:
            raise ValueError(f"max_bits {max_bits} is outside 1..2000")
        self.unit = unit
        self._framing = FRAMINGS[framing]
        self._numbered = framing == "tcp"
        self._broadcast = unit == 0 and not self._numbered
        reach = BRIDGE[framing] if bridge is None else bridge
        self._limits = Limits(max_registers, max_bits, reach, single, _ranges(forbidden))
        self._holes = list(_ranges(holes))
        self._plans: dict[tuple[int, ...], tuple[Sequence[Point], list[_Ask]]] = {}
        self._transaction = 0
        self._now = 0.0
        self._unanswered: dict[int, float] = {}

    @property
    def holes(self) -> list[list[str | int]]:
        """What the device refused, as [table, first, how many]; how many = 0 is a border that it does not read across.

        A point that stands in one is asked for alone; the entry goes when the point is answered.
        """
        return [list(hole) for hole in self._holes]

    def plan(self, points: Sequence[Point]) -> list[tuple[Point, ...]]:
        """Group points so that each group is one request, with what the device has taught so far."""
        return [ask.points for ask in self._prepared(points)]

    def poll(self, points: Sequence[Point], now: float) -> Conversation:
        """Read points, in one request if they are a group of `plan`. Every point gets exactly one sample.

        A refused point is bad:exception-<code>. A bad frame is asked for once more; silence is not.
        """
        self._now = now
        samples: list[Sample] = []
        for ask in self._prepared(points):
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
        if self._broadcast and register.field:
            raise ValueError(f"{point.name}: part of a register cannot be broadcast, it has to be read first")
        return self._write(point, raw, data)

    # Reading ----------------------------------------------------------------------------------------------------------

    def _read(self, ask: _Ask) -> Conversation:
        """Ask, decode; split the request when the device refuses its range."""
        reply = yield from self._fetch(ask)
        code = pdu.exception(reply)
        if code is None:
            if self._holes and len(ask.points) == 1 and ask.range in self._holes:
                self._holes.remove(ask.range)
                self._plans.clear()
            return [take(reply) for take in ask.takes]
        if code in _ILLEGAL and len(ask.points) > 1:
            return (yield from self._split(ask))
        if code in _ILLEGAL:
            self._learn(ask.range)
        return [Sample(point.name, None, f"bad:exception-{code}") for point in ask.points]

    def _split(self, ask: _Ask) -> Conversation:
        """Read a refused group in parts: without its holes, else by halves. Remember what lies between good parts."""
        parts = plan(ask.points, replace(self._limits, bridge=0))
        if len(parts) == 1:
            half = len(ask.points) // 2
            parts = [ask.points[:half], ask.points[half:]]
        samples: list[Sample] = []
        for part in parts:
            samples += yield from self._read(self._prepare(part))
        if not any(got.quality.startswith("bad:exception") for got in samples):
            for (table, first, count), (_, behind, _) in pairwise(span(part) for part in parts):
                if behind >= first + count:
                    self._learn((table, first + count, behind - first - count))
        return samples

    def _learn(self, hole: Range) -> None:
        if hole not in self._holes:
            self._holes.append(hole)
            self._plans.clear()

    def _fetch(self, ask: _Ask) -> Talk:
        """The reply to this request, and not a late one to an earlier request.

        On a serial line a late reply is told by its length alone. So after a time-out something of another length is
        asked first: once that is answered, or refused, what comes next is fresh. A device that offers one length only
        has to give the same answer twice.
        """
        if self._unanswered:
            self._unanswered = {size: at for size, at in self._unanswered.items() if self._now - at < LATE}
        since = self._unanswered.get(ask.reply.size)
        if since is None:
            return (yield from self._send(ask))
        other = self._other_length(ask)
        if other:
            yield from self._send(other)
            return (yield from self._send(ask))
        first = yield from self._send(ask)
        again = yield from self._send(ask)
        if again != first:
            self._unanswered[ask.reply.size] = since
            raise BadFrame(f"{ask.exchange.label}: two answers differ after a time-out, one may be late")
        return again

    def _other_length(self, ask: _Ask) -> _Ask | None:
        """A read whose reply has a length that is not outstanding: one of the points, or a little more than asked."""
        if self._limits.single:
            return None
        if len(ask.points) > 1:
            for point in ask.points:
                other = self._prepare((point,))
                if other.reply.size not in self._unanswered:
                    return other
        table, first, count = ask.range
        wider, most = (
            (count + 8, self._limits.max_bits) if table in BIT_TABLES else (count + 1, self._limits.max_registers)
        )
        avoid = (*self._limits.avoid, *self._holes)
        if wider > most or first + wider > 65536 or crosses(avoid, table, first, wider):
            return None
        other = self._request((), (table, first, wider))
        return None if other.reply.size in self._unanswered else other

    def _send(self, ask: _Ask) -> Talk:
        """One exchange; a bad frame is asked for once more."""
        try:
            try:
                frame = yield self._exchange(ask)
            except BadFrame:
                frame = yield self._exchange(ask)
        except NoReply:
            if not self._numbered:
                self._unanswered[ask.reply.size] = self._now
            raise
        self._unanswered.clear()
        return self._framing.unwrap(frame)

    def _exchange(self, ask: _Ask) -> Exchange:
        """The prepared exchange; over TCP it gets a transaction number of its own."""
        if not self._numbered:
            return ask.exchange
        return self._packed(ask.request, ask.reply, ask.exchange.label, ask.exchange.hold)

    # Preparing --------------------------------------------------------------------------------------------------------

    def _prepared(self, points: Sequence[Point]) -> list[_Ask]:
        """The requests for these points, from the cache: the same points come round with every period."""
        key = tuple(map(id, points))
        known = self._plans.get(key)
        if known is None:
            if self._broadcast:
                raise ValueError("unit 0 is the broadcast address of a serial line: nothing answers it")
            if len(self._plans) >= _CACHED_PLANS:
                self._plans.clear()
            # The points are kept with their ids: while they live here, no other object gets these ids.
            limits = replace(self._limits, avoid=(*self._limits.avoid, *self._holes))
            known = tuple(points), [self._prepare(group) for group in plan(points, limits)]
            self._plans[key] = known
        return known[1]

    def _prepare(self, points: tuple[Point, ...]) -> _Ask:
        whole = span(points)
        return self._request(points, whole, tuple(_take(point, whole[1]) for point in points))

    def _request(
        self, points: tuple[Point, ...], whole: Range, takes: tuple[Take, ...] = (), hold: bool = False
    ) -> _Ask:
        """The request that reads a range."""
        table, first, count = whole
        request = pdu.read(table, first, count)
        noun = "bit" if table in BIT_TABLES else "register"
        where = f"{first}..{first + count - 1}" if count > 1 else f"{first}"
        label = f"unit {self.unit}: FC{request[0]} {table} {where} ({count} {noun}{'s' if count > 1 else ''})"
        reply = pdu.read_reply(table, request)
        return _Ask(points, whole, request, reply, self._packed(request, reply, label, hold), takes)

    def _packed(self, request: bytes, reply: Reply, label: str, hold: bool = False) -> Exchange:
        """A PDU on its way: framed, with the search for its reply."""
        self._transaction = (self._transaction + 1) % 65536
        frame = self._framing.wrap(self.unit, self._transaction, request)
        if self._broadcast:
            return Exchange(frame, None, 0, label)
        find = self._framing.find(self.unit, frame, reply)
        return Exchange(frame, find, self._framing.size(reply.size), label, hold=hold)

    # Writing ----------------------------------------------------------------------------------------------------------

    def _write(self, point: Point, raw: values.Raw, data: bytes) -> Conversation:
        register = register_of(point)
        if register.field:
            data = values.merge(register, (yield from self._word(register)), raw)
        for request in _write_requests(register, data):
            code, label = yield from self._command(request, register)
            if code != pdu.ILLEGAL_FUNCTION:
                break
        if code is not None:
            raise pdu.refused(label, code)
        return [_sampler(point)(raw)]

    def _command(self, request: bytes, register: Register) -> Generator[Step, bytes, tuple[int | None, str]]:
        """Send a write; its exception code (None: done) and its label."""
        label = f"unit {self.unit}: FC{request[0]} write {register.table} {register.at}"
        exchange = self._packed(request, pdu.write_reply(request), label)
        frame = yield exchange
        return (pdu.exception(self._framing.unwrap(frame)) if exchange.find else None), label

    def _word(self, register: Register) -> Talk:
        """The register as it stands, so that its other bits keep their state. Nobody else comes between."""
        ask = self._request((), (register.table, register.at, 1), hold=True)
        reply = yield from self._fetch(ask)
        code = pdu.exception(reply)
        if code is not None:
            raise pdu.refused(ask.exchange.label, code)
        return reply[2:]


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


def _take(point: Point, first: int) -> Take:
    """Prepare a point's sample out of a reply PDU whose data begins at address `first`."""
    read = values.reader(register_of(point), first, skip=2)
    make = _sampler(point)
    return lambda reply: make(read(reply))


def _sampler(point: Point) -> Callable[[values.Raw | None], Sample]:
    """Raw -> sample. Text goes as it is; a bit stays a bit, also when it is inverted by scale -1 and offset 1."""
    kind = register_of(point).type
    if kind == "string":
        return lambda raw: Sample(point.name, raw) if isinstance(raw, str) else sample(point, None)
    if kind == "bit":
        off, on = (_bit_sample(point, raw) for raw in (False, True))
        return lambda raw: on if raw else off
    if _is_plain(point):  # nearly all registers of a PLC: worth not going through every rule each time
        name = point.name
        return lambda raw: Sample(name, raw) if raw is not None and isfinite(raw) else sample(point, raw)  # type: ignore[arg-type]
    return lambda raw: sample(point, raw)  # type: ignore[arg-type]  # only a string register yields text


def _is_plain(point: Point) -> bool:
    """Whether the value is the raw number as it is."""
    limits = (point.decimals, point.low, point.high)
    return point.scale == 1.0 and not (point.offset or point.labels or point.sentinels) and limits == (None,) * 3


def _bit_sample(point: Point, raw: bool) -> Sample:
    made = sample(point, raw)
    return made._replace(value=bool(made.value)) if isinstance(made.value, float) else made
