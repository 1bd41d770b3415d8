"""The ledger outside of the agent: what arrived at the IOC, held against what the devices answered."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from devices import POINTS, Answer, mark, now
from oracle import body, oracle

STREAMS = {"telemetry": "t", "event": "e", "cmd": "c"}
ROUNDING = 50.0
"""Ms between a time on the wire and on the device that say nothing: rounding, and a wall clock that is disciplined."""
SLOWEST = 2000.0
"""Ms that an agent without processor time may need to stamp the last answer of a device."""

Key = tuple[int, str, str, int, int, int]
"""Start counter, epoch, stream, seq, part, of how many: sorts as the contract orders."""


Rows = dict[tuple[str, int, int], dict[str, Any]]
"""(device, ts, how many of that ms came before) -> point -> value, in the order in which the gateway gave them."""


class Told(NamedTuple):
    """One reading as it arrived: the device's own words, and the time that the gateway gives it."""

    device: str
    count: int
    ms: int
    mark: int
    ts: int
    clk: str
    live: bool
    boot: str
    mono: int
    """Monotonic ms of that boot."""


class Verdict(NamedTuple):
    """What is wrong, as sentences, and how many messages came more than once."""

    lost: list[str]
    duplicated: int
    wrong: list[str]


@dataclass
class Ledger:
    """Takes every message of one gateway. Judges with the answers that the devices remember."""

    anchor: float = field(default_factory=lambda: time.time() * 1000 - now())
    keys: Counter[Key] = field(default_factory=Counter)
    monotonic: dict[Key, int] = field(default_factory=dict)
    """Key -> monotonic ms of the batch, where it has one."""
    told: list[Told] = field(default_factory=list)
    arrived: defaultdict[int, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    """Unit -> count -> times received."""
    events: list[dict[str, Any]] = field(default_factory=list)
    said: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    """Kind (status, clock, epochs, health) -> bodies."""
    _latest: dict[str, int] = field(default_factory=dict)
    _steps_back: list[tuple[Key, str]] = field(default_factory=list)
    _backlog: dict[str, Key] = field(default_factory=dict)

    def take(self, topic: str, payload: bytes) -> Key | None:
        """One message from the broker; the key of a durable one."""
        kind = topic.partition("/up/")[2].partition("/")[0]
        if kind not in STREAMS:
            if payload and kind != "birth":
                self.said[kind].append(body(payload))
            return None
        message = oracle(payload) if kind == "telemetry" else body(payload)
        part, of = message.get("part", [1, 1])
        key = (int(message["epoch"].partition("-")[0]), message["epoch"], STREAMS[kind], message["seq"], part, of)
        self.keys[key] += 1
        first = self.keys[key] == 1
        rows = readings(message)
        if first:
            self._note_order(key, rows, live=not message.get("hist"))
        if kind == "telemetry":
            self._take_readings(key, message, rows, first)
        elif kind == "event" and first:
            self.events.append(message)
        return key

    def whole(self, key: Key) -> bool:
        """Whether all parts of a batch are here."""
        return all((*key[:4], part, key[5]) in self.keys for part in range(1, key[5] + 1))

    def _note_order(self, key: Key, rows: Rows, *, live: bool) -> None:
        """Backlog is in order within itself; live batches of a device never step back in time."""
        if not live:
            before = self._backlog.get(key[2], key)
            if key < before:
                self._steps_back.append((key, f"backlog {key[1:]} came after {before[1:]}"))
            self._backlog[key[2]] = max(key, before)
            return
        for device, ts, _ in rows:
            before = self._latest.get(device, ts)
            if ts < before:
                self._steps_back.append((key, f"live: {device} at {ts} came after {before}, batch {key[1:]}"))
            self._latest[device] = max(ts, before)

    def _take_readings(self, key: Key, message: dict[str, Any], rows: Rows, first: bool) -> None:
        self.monotonic[key] = message["m0"]
        for (device, ts, _), values in rows.items():
            count, ms, told_mark = (values.get(name, -1) for name in POINTS)
            self.arrived[unit_of(device)][count] += 1
            if first:
                mono = ts - message["t0"] + message["m0"]
                how = (message["clk"], not message.get("hist"), message["boot"], mono)
                self.told.append(Told(device, count, ms, told_mark, ts, *how))

    # ---- judging

    def missing(self, owed: Iterable[Answer]) -> list[Answer]:
        """Which of these answers never arrived."""
        return [answer for answer in owed if answer.count not in self.arrived[answer.unit]]

    def announced(self) -> set[tuple[str, str, int]]:
        """(epoch, stream, seq) that events have named as dropped or set aside."""
        found = set()
        for event in self.events:
            for entry in event.get("data", {}).get("dropped", ()):
                for first, last in entry["ranges"]:
                    found |= {(entry["epoch"], entry["stream"], seq) for seq in range(first, last + 1)}
        return found

    def disorder(self) -> list[str]:
        """What did not come in its order. What events have named, dead letters, comes when it is let through."""
        announced = self.announced()
        return [text for key, text in self._steps_back if key[1:4] not in announced]

    def gaps(self, kills: Iterable[float], window: float) -> list[str]:
        """Numbers below the highest of their stream that neither arrived nor were announced.

        `kills`: when the agent was killed, ms of the monotonic clock. What it had published less than `window` ms
        before may be missing.
        """
        seen: defaultdict[tuple[str, str], dict[int, list[Key]]] = defaultdict(lambda: defaultdict(list))
        for key in self.keys:
            seen[key[1], key[2]][key[3]].append(key)
        announced, kills = self.announced(), list(kills)
        found = []
        for (epoch, stream), batches in seen.items():
            times = {seq: max(self.monotonic.get(key, 0) for key in keys) for seq, keys in batches.items()}
            whole = {seq for seq, keys in batches.items() if any(map(self.whole, keys))}
            for seq in sorted(set(range(1, max(batches) + 1)) - whole):
                later = next((times[other] for other in sorted(times) if other >= seq), 0)
                late = any(kill - window <= later <= kill for kill in kills)
                if (epoch, stream, seq) not in announced and not late:
                    found.append(f"batch {stream} {seq} of epoch {epoch} is missing")
        return found

    def mistaken(self, answers: dict[int, list[Answer]]) -> list[str]:
        """Readings that no device gave, or with a time at which it did not give them.

        The gateway stamps an answer when it has come, and asks the device again later: so the stamp lies between the
        answer and the device's next one.
        """
        found = []
        for told in self.told:
            unit = unit_of(told.device)
            given = answers[unit]
            answer = given[told.count - 1] if 0 < told.count <= len(given) else None
            if answer is None or (int(answer.ms) & 0xFFFFFFFF, mark(unit, told.count)) != (told.ms, told.mark):
                found.append(f"no such answer: {told}")
                continue
            stamped = told.ts - self.anchor
            latest = given[told.count].ms if told.count < len(given) else answer.ms + SLOWEST
            if told.clk != "unsynced" and not answer.ms - ROUNDING <= stamped <= latest + ROUNDING:
                found.append(f"the time does not fit by {stamped - answer.ms:.0f} ms: {told}")
        return found

    def raised(self, code: str) -> int:
        """How many times an event was raised."""
        return sum((event["code"], event["state"]) == (code, "raised") for event in self.events)

    def duplicated(self) -> int:
        """How many messages came under a key that had come before."""
        return self.keys.total() - len(self.keys)


def unit_of(device: str) -> int:
    """device-7 -> 7."""
    return int(device.rpartition("-")[2])


def readings(message: dict[str, Any]) -> Rows:
    """What was read together, without the points that say "no value"."""
    rows: Rows = {}
    times: Counter[tuple[str, int, str]] = Counter()
    for device, _, point, ts, value, _ in message.get("rows", ()):
        nth = times[device, ts, point]
        times[device, ts, point] += 1
        if value is not None:
            rows.setdefault((device, ts, nth), {})[point] = value
    return rows
