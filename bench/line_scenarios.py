"""What is measured on serial lines: each scenario runs systems on the line rig and returns figures."""

from __future__ import annotations

import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate, chain, cycle, islice, pairwise

import decode
from field import Tag
from line import TOLERANCE, Outcome, Request, shortest, silence
from line_rig import LineRig, Work, ask
from rig import Failed, Sleep
from step import Figures, Step, guarded, together
from systems import System

FAST, SLOW = 115200, 9600
DEAD = (2, 5, 8)
ADJACENT = tuple(Tag(f"p{at}", at, "u16") for at in range(20, 30))
HOLES = (8, 2, 5, 4)
"""Registers between two points, in turn."""
APART = 100
"""First register of a command: no poll reads it, so the line knows a command by it."""
SCATTERED = tuple(
    Tag(f"p{at}", at, "u16") for at in accumulate(islice(cycle(HOLES), 19), lambda at, hole: at + 1 + hole, initial=20)
)


def _per_second(requests: Sequence[Request]) -> float:
    """Sweeps per second from the first to the last of them: no part of a sweep is lost at a window's edges."""
    begun = [r.begin for r in requests if r.sweeps]
    if len(begun) < 2:
        raise Failed(f"{len(begun)} sweeps in the window")
    return 1000 * (len(begun) - 1) / (begun[-1] - begun[0])


def _full_line(baud: int, systems: Sequence[System], quick: bool) -> Iterator[Step]:
    rounds, seconds = (1, 4.0) if quick else (3, {SLOW: 8.0, FAST: 4.0}[baud])

    def measure(system: System, sleep: Sleep) -> Figures:
        with LineRig(system, Work(baud), sleep) as rig:
            rig.settle(1.5)
            window, requests = rig.span(seconds)
            sleep(1.6)
            wrong = rig.wrong()
        sweeps = _per_second(requests)
        broken = sum(r.gap < 1000 * silence(baud) * (1 - TOLERANCE) for r in requests)
        return {
            "sweeps": sweeps,
            "efficiency": sweeps * shortest(baud),
            "broken": broken,
            "requests": len(requests),
            "requests_per_sweep": len(requests) / sum(r.sweeps for r in requests),
            "core_percent": (window.after.cpu - window.before.cpu) / (window.after.at - window.before.at) * 1e5,
            "wrong": wrong,
        }

    for number in range(rounds):
        for system in systems:
            label = f"line at {baud} baud, round {number + 1} of {rounds}: {system.label}"
            yield Step(f"line-{baud}", label, seconds + 4.5, guarded(system, measure))


def _dead(baud: int, systems: Sequence[System], quick: bool) -> Iterator[Step]:
    """Side by side, as dead units make a system wait; at 115200 those that do not wait get the machine alone."""
    before_s, after_s = {SLOW: (10.0, 20.0), FAST: (5.0, 10.0)}[baud]
    waiting = 5.0 if quick else 15.0

    def measure(system: System, sleep: Sleep) -> Figures:
        with LineRig(system, Work(baud), sleep) as rig:
            rig.settle(2)
            _, before = rig.span(before_s)
            rig.lines.tell(*(f"silent 0 {unit}" for unit in DEAD))
            sleep(waiting)
            _, after = rig.span(after_s)
        was, now = (Counter(r.unit for r in span if r.sweeps) for span in (before, after))
        living = [unit for unit in was if unit not in DEAD]
        if not living:
            raise Failed("no sweep before the units fell silent")
        stretch = before_s / after_s
        return {
            "kept": stretch * sum(now[u] for u in living) / sum(was[u] for u in living),
            "kept_worst": stretch * min(now[u] / was[u] for u in living),
            "asked_dead": sum(r.unit in DEAD for r in after) / after_s,
        }

    alone = [s for s in systems if baud == FAST and s.name in ("ours", "c")]
    others = [s for s in systems if s not in alone]
    seconds = before_s + waiting + after_s + 5
    for system in alone:
        yield Step(f"dead-{baud}", f"dead units at {baud} baud: {system.label}", seconds, guarded(system, measure))
    if others:
        label = f"dead units at {baud} baud: {len(others)} systems side by side"
        yield Step(f"dead-{baud}", label, seconds, together(others, measure))


def _crc(systems: Sequence[System], quick: bool) -> Iterator[Step]:
    before_s, after_s = (2.0, 4.0) if quick else (4.0, 8.0)

    def measure(system: System, sleep: Sleep) -> Figures:
        with LineRig(system, Work(FAST), sleep) as rig:
            rig.settle(2)
            _, before = rig.span(before_s)
            rig.lines.tell("crc 20000")
            sleep(0.5)
            _, after = rig.span(after_s)
            sleep(1.6)
            wrong = rig.wrong()
        clean, dirty = (sum(r.sweeps for r in span) for span in (before, after))
        corrupted = sum(r.outcome is Outcome.CORRUPTED for r in after)
        return {
            "kept": dirty / clean * before_s / after_s,
            "wrong": wrong,
            "corrupted": corrupted,
            "clean": clean / before_s,
        }

    for system in systems:
        label = f"2 % of the answers corrupted: {system.label}"
        yield Step("crc-115200", label, before_s + after_s + 6, guarded(system, measure))


def _other_port(systems: Sequence[System], quick: bool) -> Iterator[Step]:
    seconds = 2.0 if quick else 4.0

    def measure(system: System, sleep: Sleep) -> Figures:
        with LineRig(system, Work(FAST, range(1, 6), lines=2), sleep) as rig:
            rig.settle(1.5)
            rates = []
            for command in ("noise 0", "silent 0 0", "gone 0"):
                rig.lines.tell(command)
                rates.append(sum(r.sweeps and r.line == 1 for r in rig.span(seconds)[1]) / seconds)
        before, dead, gone = rates
        if not before:
            raise Failed("no sweep before the units fell silent")
        return {"before": before, "dead": dead / before, "gone": gone / before}

    for system in systems:
        if system.name in ("ours", "tb-sqlite", "plain"):
            label = f"the other port is dead, then gone: {system.label}"
            yield Step("other-port", label, 3 * seconds + 4, guarded(system, measure))


def _noise(systems: Sequence[System], quick: bool) -> Iterator[Step]:
    seconds = 2.0 if quick else 4.0

    def measure(system: System, sleep: Sleep) -> Figures:
        counts = (1, 2, 4)
        with LineRig(system, Work(FAST, (5,)), sleep) as rig:
            rig.settle(2)
            spans = []
            for count in counts:
                rig.lines.tell(f"noise {count}")
                window = rig.window(seconds)
                spans.append((window.before.at, window.after.at))
            sleep(2)
            right = {int(row.values["n"]) for row in rig.rows() if "n" in row.values and not decode.is_wrong(row)}
            answers = [r for r in rig.lines.requests() if r.sweeps]
        figures: dict[str, float | None] = {}
        for count, (start, end) in zip(counts, spans, strict=True):
            given = {n for n, r in enumerate(answers, 1) if start <= r.begin < end}
            figures[f"correct_{count}"] = 100 * len(given & right) / len(given) if given else None
        return figures

    for system in systems:
        if system.name in ("ours", "plain"):
            label = f"noise before every answer: {system.label}"
            yield Step("noise", label, 3 * seconds + 5, guarded(system, measure))


def _merge(systems: Sequence[System], quick: bool) -> Iterator[Step]:
    seconds = 4.0 if quick else 6.0

    def asked(system: System, tags: Sequence[Tag], sleep: Sleep) -> float:
        with LineRig(system, Work(FAST, (1,), period=1.0, tags=tags), sleep) as rig:
            rig.settle(2)
            _, requests = rig.span(seconds)
        polls = sum(r.first <= tags[0].at < r.first + r.size for r in requests)
        if not polls:
            raise Failed("no poll in the window")
        return len(requests) / polls

    def measure(system: System, sleep: Sleep) -> Figures:
        return {"adjacent": asked(system, ADJACENT, sleep), "scattered": asked(system, SCATTERED, sleep)}

    chosen = [s for s in systems if s.name in ("ours", "tb-sqlite")]
    if chosen:
        yield Step("merge", "requests for 10 and for 20 points", 2 * seconds + 8, together(chosen, measure))


def _jitter(systems: Sequence[System], quick: bool) -> Iterator[Step]:
    seconds = 6.0 if quick else 20.0

    def measure(system: System, sleep: Sleep) -> Figures:
        with LineRig(system, Work(SLOW, range(1, 6), period=1.0), sleep) as rig:
            rig.settle(3)
            _, requests = rig.span(seconds)
        begun = defaultdict(list)
        for request in requests:
            if request.sweeps:
                begun[request.unit].append(request.begin)
        off = {unit: sorted(abs(b - a - 1000) / 10 for a, b in pairwise(times)) for unit, times in begun.items()}
        worst = [decode.percentile(each, 0.99) or 0.0 for each in off.values() if each]
        if not worst:
            raise Failed("no unit was asked twice in the window")
        return {"p50": statistics.median(chain.from_iterable(off.values())), "p99": max(worst)}

    alone = [s for s in systems if s.name == "ours"]
    for chosen in (alone, [s for s in systems if s not in alone]):
        if chosen:
            label = f"jitter of a period of 1 s: {', '.join(s.label for s in chosen)}"
            yield Step("jitter", label, seconds + 7, together(chosen, measure))


def _scale(systems: Sequence[System], quick: bool) -> Iterator[Step]:
    seconds = 4.0 if quick else 8.0

    def cost(system: System, lines: int, sleep: Sleep) -> float:
        with LineRig(system, Work(FAST, range(1, 33), lines, period=1.0), sleep) as rig:
            rig.settle(3)
            window, requests = rig.span(seconds)
        polls = sum(r.sweeps for r in requests)
        if polls < 0.9 * 32 * lines * seconds:
            raise Failed(f"{polls} of {32 * lines * seconds:g} polls on {lines} lines")
        return (window.after.cpu - window.before.cpu) / polls * 1e6

    def measure(system: System, sleep: Sleep) -> Figures:
        one, eight = cost(system, 1, sleep), cost(system, 8, sleep)
        return {"one_us": one, "eight_us": eight, "ratio": eight / one}

    for system in systems:
        if system.name in ("ours", "plain"):
            label = f"one line and eight lines of 32 units: {system.label}"
            yield Step("scale", label, 2 * (seconds + 5), guarded(system, measure))


def _command(systems: Sequence[System], quick: bool) -> Iterator[Step]:
    """Reads of registers that nobody polls, each asked when the one before is done; seen by the line."""
    commands = 10 if quick else 40

    def measure(system: System, sleep: Sleep) -> Figures:
        with LineRig(system, Work(SLOW), sleep) as rig:
            rig.settle(3)
            door = rig.disk / "store" / "control.sock"
            if not door.is_socket():
                raise Failed(f"it opened no control.sock beside its store; it said: {rig.said()}")
            asked, answers = [], []
            for number in range(commands):
                told = {"v": 1, "id": number, "do": "read", "bus": "line-1", "unit": number % 10 + 1}
                asked.append(time.monotonic() * 1000)
                answers = ask(door, told | {"table": "holding", "first": APART, "count": 2})
                sleep(0.1 + number % 7 * 0.03)
            seen = [r.begin for r in rig.lines.requests() if r.first == APART]
        if len(seen) != commands:
            raise Failed(f"{len(seen)} of {commands} commands on the wire; the last answer: {answers[-1]}")
        waited = sorted(on_wire - call for call, on_wire in zip(asked, seen, strict=True))
        return {
            "p50": decode.percentile(waited, 0.5),
            "p99": decode.percentile(waited, 0.99),
            "max": waited[-1],
        }

    for system in systems:
        if system.name == "ours":
            label = f"commands on a full line: {system.label}"
            yield Step("command", label, 0.3 * commands + 5, guarded(system, measure))


LINE_SCENARIOS: dict[str, Callable[[Sequence[System], bool], Iterator[Step]]] = {
    "line-9600": partial(_full_line, SLOW),
    "line-115200": partial(_full_line, FAST),
    "dead-9600": partial(_dead, SLOW),
    "dead-115200": partial(_dead, FAST),
    "crc-115200": _crc,
    "other-port": _other_port,
    "noise": _noise,
    "merge": _merge,
    "jitter": _jitter,
    "scale": _scale,
    "command": _command,
}
