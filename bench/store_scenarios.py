"""What is measured of the store: wear of the flash, draining, memory and restart with a long backlog."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

import decode
from field import TAGS
from rig import Failed, Sleep
from step import Figures, Step
from store_rig import Backlog, StoreRig, Work, forget_peak, memory, place, stock
from systems import System

LONG = Backlog(5_000_000, 20)
"""What stands in the store after three days without a broker at 20 readings/s."""
CUT = LONG._replace(clean=False)
TEN = TAGS[:10]
FLASH = {
    "online": Work(),
    "offline-1s": Work(store='commit_every = "1s"'),
    "offline-5s": Work(store='commit_every = "5s"'),
    "strict-10s": Work(linger="10s", store='durability = "strict"'),
    "offline-400-1s": Work(40, TEN, store='commit_every = "1s"'),
    "offline-400-5s": Work(40, TEN, store='commit_every = "5s"'),
}
DRAINS = {"drain-60": Backlog(1_000_000, 60), "drain-20": Backlog(1_000_000, 20), "drain-4": Backlog(200_000, 4)}
DAY = 86400.0
STOCK = "stock"
"""Scenario of the steps that only prepare."""


def is_ours(systems: Sequence[System]) -> bool:
    return any(system.name == "ours" for system in systems)


def guarded(name: str, measure: Callable[[Sleep], Figures]) -> Callable[[Sleep], dict[str, Figures]]:
    def run(sleep: Sleep) -> dict[str, Figures]:
        try:
            return {name: measure(sleep)}
        except (Failed, OSError) as problem:
            return {name: str(problem)}

    return run


def made(*backlogs: Backlog) -> Iterator[Step]:
    """The stores that are not there yet."""
    for backlog in backlogs:
        if not place(backlog).exists():

            def run(sleep: Sleep, backlog: Backlog = backlog) -> dict[str, Figures]:
                stock(backlog, sleep)
                return {}

            end = "stopped" if backlog.clean else "killed"
            label = f"{backlog.readings:,} readings into a store, {backlog.per_batch} a batch, {end}"
            yield Step(STOCK, label, 2 + backlog.batches / 8000, run)


def _flash(systems: Sequence[System], quick: bool) -> Iterator[Step]:
    """All gateways side by side in one window, each with its own folder; then what is left is sent, and freed."""
    warm, seconds = (15.0, 60.0) if quick else (75.0, 600.0)

    def run(sleep: Sleep) -> dict[str, Figures]:
        with contextlib.ExitStack() as stack:
            rigs = {
                name: stack.enter_context(StoreRig(work, sleep, broker=not name.startswith("offline")))
                for name, work in FLASH.items()
            }
            sleep(warm)
            begun = {name: (rig.wear(), time.monotonic()) for name, rig in rigs.items()}
            sleep(min(at for _, at in begun.values()) + seconds - time.monotonic())
            figures = {name: _window(rig, *begun[name]) for name, rig in rigs.items()}
            offline = {name: rig for name, rig in rigs.items() if name.startswith("offline")}
            back = {name: (rig.wear(), _back(rig)) for name, rig in offline.items()}
            for name, rig in offline.items():
                rig.until_calm(back[name][1], 60)
            sleep(16)  # deletes wait for company
            for name, rig in offline.items():
                figures[name] |= _freed(rig, *back[name])
        if quick:  # the state row is committed every ten minutes: there is nothing to extrapolate
            figures["online"] = {}
        return {name: _summed(found) for name, found in figures.items()}

    if is_ours(systems):
        label = f"bytes written to flash: {len(FLASH)} gateways side by side"
        yield Step("flash", label, warm + seconds + 30, run)


def _summed(figures: dict[str, float]) -> Figures:
    if not figures:
        return "its window is ten minutes: not in a quick run"
    freed = {"freed_each": 0.0, "freed_day": 0.0} | figures
    return {
        **freed,
        "each": freed["window_each"] + freed["freed_each"],
        "day": freed["window_day"] + freed["freed_day"],
    }


def _window(rig: StoreRig, wear: int, began: float) -> dict[str, float]:
    """Bytes from then to now, per reading and a day."""
    written, seconds = rig.wear() - wear, time.monotonic() - began
    each = written / (rig.work.rate * seconds)
    return {"window_each": each, "window_day": written / seconds * DAY}


def _back(rig: StoreRig) -> float:
    """Starts the broker; returns when it was there, in ms."""
    rig.start_broker()
    return time.monotonic() * 1000


def _freed(rig: StoreRig, wear: int, back: float) -> dict[str, float]:
    """Bytes since the broker's return, per reading that was on the disk then."""
    readings = sum(decode.count(row) for row in rig.rows() if (decode.answered_ms(row) or back) < back)
    each = (rig.wear() - wear) / readings
    return {"freed_each": each, "freed_day": each * rig.work.rate * DAY}


def _drain(systems: Sequence[System], quick: bool) -> Iterator[Step]:
    rounds = 1 if quick else 3

    def measure(backlog: Backlog, sleep: Sleep) -> Figures:
        with StoreRig(Work(backlog=backlog), sleep, alone=True) as rig:
            rig.until_drained(120)
            spent = rig.snapshot()
            arrived = rig.backlog()
            written = rig.stop_system()
        span = (arrived[-1].arrival - arrived[0].arrival) / 1000
        batches = len({a.seq for a in arrived})
        return {
            "rate": (batches - 1) * backlog.per_batch / span,
            "batches": (batches - 1) / span,
            "span": span,
            "cpu_us": spent.cpu / batches * 1e6,
            "freed": written / backlog.readings,
            "repeated": len(arrived) - batches,
        }

    if is_ours(systems):
        yield from made(*DRAINS.values())
    for number in range(rounds if is_ours(systems) else 0):
        for name, backlog in DRAINS.items():
            label = f"drain, round {number + 1} of {rounds}: {backlog.per_batch} readings a batch"
            yield Step("drain", label, 20, guarded(name, lambda sleep, backlog=backlog: measure(backlog, sleep)))


def _live(systems: Sequence[System], quick: bool) -> Iterator[Step]:
    """A million readings drain while 20 devices are polled five times a second and every poll is a batch at once."""
    rounds = 1 if quick else 3

    def measure(sleep: Sleep) -> Figures:
        work = Work(20, TAGS, "0s", backlog=Backlog(1_000_000, 20), period=0.2)
        with StoreRig(work, sleep, alone=True) as rig:
            rig.until_drained(120)
            drained = rig.backlog()
            sleep(5)
            while_draining = rig.delays(drained[0].arrival, drained[-1].arrival)
            after = rig.delays(drained[-1].arrival + 1000, time.monotonic() * 1000)
        if not while_draining or not after:
            raise Failed("no live reading arrived")
        return {
            "p50": decode.percentile(while_draining, 0.50),
            "p99": decode.percentile(while_draining, 0.99),
            "max": while_draining[-1],
            "polls": len(while_draining),
            "span": (drained[-1].arrival - drained[0].arrival) / 1000,
            "calm_p50": decode.percentile(after, 0.50),
            "calm_p99": decode.percentile(after, 0.99),
        }

    for number in range(rounds if is_ours(systems) else 0):
        label = f"live readings while a million drain, round {number + 1} of {rounds}"
        yield Step("live", label, 22, guarded("live", measure))


def _memory(systems: Sequence[System], quick: bool) -> Iterator[Step]:
    """An empty store and a long backlog side by side without a broker; then the broker comes."""
    rest, draining = (20.0, 10.0) if quick else (60.0, 30.0)

    def run(sleep: Sleep) -> dict[str, Figures]:
        figures: dict[str, dict[str, float | None]] = {"empty": {}, "queued": {}}
        with contextlib.ExitStack() as stack:
            works = {"empty": Work(), "queued": Work(backlog=LONG)}
            rigs = {n: stack.enter_context(StoreRig(w, sleep, broker=False)) for n, w in works.items()}
            sleep(rest)
            for name, rig in rigs.items():
                figures[name] |= memory(rig.process.pid)
                forget_peak(rig.process.pid)
                rig.start_broker()
            sleep(draining)
            for name, rig in rigs.items():
                held = memory(rig.process.pid)
                figures[name] |= {"peak": held["peak"], "pss_draining": held["pss"], "batches": len(rig.arrived())}
        return dict(figures)

    if is_ours(systems):
        yield from made(LONG)
        yield Step("backlog-memory", "memory with 5 million readings queued", rest + draining + 5, run)


def _restart(systems: Sequence[System], quick: bool) -> Iterator[Step]:
    """Interleaved starts without a broker: an empty store, the backlog, the backlog of an agent that was killed."""
    rounds = 3 if quick else 5
    backlogs = {"empty": None, "clean": LONG, "killed": CUT}

    def measure(backlog: Backlog | None, cold: bool, sleep: Sleep) -> Figures:
        with StoreRig(Work(backlog=backlog), sleep, broker=False, cold=cold) as rig:
            return {"first_poll_s": rig.first_poll(30)}

    if is_ours(systems):
        yield from made(LONG, CUT)
    for number in range(rounds + 1 if is_ours(systems) else 0):
        cold = number == rounds
        for name, backlog in backlogs.items():
            label = f"start, {name}: {'store not in the cache' if cold else f'round {number + 1} of {rounds}'}"
            run = guarded(f"{name}-cold" if cold else name, lambda sleep, b=backlog, c=cold: measure(b, c, sleep))
            yield Step("restart", label, 2, run)


STORE_SCENARIOS: dict[str, Callable[[Sequence[System], bool], Iterator[Step]]] = {
    "flash": _flash,
    "drain": _drain,
    "live": _live,
    "backlog-memory": _memory,
    "restart": _restart,
}
