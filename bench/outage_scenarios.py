"""What is measured of a broker that goes and comes back: sweeps delivered, duplicates."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import decode
from field import DEVICES
from rig import Rig, Sleep
from step import Figures, Step, together
from store_rig import Backlog, StoreRig, Work
from store_scenarios import guarded, is_ours, made
from systems import System

LOSS_WINDOW_S = 2.0
"""What `gateway check` states for linger 1 s and commit_every 1 s; one commit comes on top."""
COMMIT_S = 0.1
RESTARTS = 20
DEEP = Backlog(5_000_000, 20)
PEERS = ("ours", "plain", "modpoll", "tb-sqlite", "tb-file")


def _restarts(systems: Sequence[System], quick: bool) -> Iterator[Step]:
    """A backlog drains, so the window is full, and the broker is stopped and started again and again."""
    restarts = 6 if quick else RESTARTS

    def measure(sleep: Sleep) -> Figures:
        with StoreRig(Work(backlog=DEEP), sleep, lasting=True) as rig:
            rig.until("draining", lambda: bool(rig.backlog()), look=0.1)
            moments = []
            for _ in range(restarts):
                sleep(1)
                moments.append(time.monotonic() * 1000)
                rig.stop_broker()
                sleep(0.2)
                rig.start_broker()
                back = time.monotonic() * 1000
                rig.until("draining again", lambda: rig.backlog()[-1].arrival > back + 100, look=0.1)  # noqa: B023
            sleep(1)
            rig.stop_system()
            sleep(0.5)
            arrived = rig.backlog()
        seen, repeated = set[int](), []
        for batch in arrived:
            if batch.seq in seen and not batch.again:
                repeated.append(batch.arrival)
            seen.add(batch.seq)
        edges = [*moments, float("inf")]
        each = [sum(start <= moment < end for moment in repeated) for start, end in pairwise(edges)]
        return {
            "worst": max(each),
            "repeated": sum(each),
            "restarts": restarts,
            "missing": max(seen) - len(seen),
            "redelivered": sum(batch.again for batch in arrived),
            "batches": len(seen),
        }

    if is_ours(systems):
        yield from made(DEEP)
        yield Step("broker-restart", f"{restarts} restarts of the broker", 3 * restarts + 5, guarded("ours", measure))


def _outage(systems: Sequence[System], quick: bool, *, kill: bool) -> Iterator[Step]:
    outage = 20.0 if quick else 60.0
    patience = 40.0 if quick else 90.0

    def measure(system: System, sleep: Sleep) -> Figures:
        with Rig(system, 1.0, sleep) as rig:
            rig.first_reading()
            sleep(4)
            rig.align()
            gone = time.monotonic() * 1000
            rig.stop_broker()
            killed = None
            if kill:
                sleep(outage / 2)
                killed = time.monotonic() * 1000
                rig.kill_system()
                sleep(2)
                rig.start_system()
            sleep(gone / 1000 + outage - time.monotonic())
            rig.start_broker()
            back = time.monotonic() * 1000
            deadline = time.monotonic() + patience
            while rig.process.poll() is None and not _calm(rig.rows(), back) and time.monotonic() < deadline:
                sleep(0.5)
            runs, rows = rig.process.poll() is None, rig.rows()
        figures, asked = _told(rows, gone, back, killed), DEVICES * outage
        return figures | {"share": 100 * (figures["delivered"] or 0) / asked, "asked": asked, "runs": runs}

    chosen = [s for s in systems if s.name in PEERS]
    if chosen:
        name, what = ("outage-kill", ", kill -9 in the middle") if kill else ("outage", "")
        label = f"broker away {outage:g} s{what}: {len(chosen)} systems side by side"
        yield Step(name, label, outage + 30, together(chosen, measure))


def _calm(rows: Sequence[decode.Row], back: float) -> bool:
    """Whether new readings arrive again and the last old one came 5 s ago."""
    old, new = [], []
    for row in rows:
        if row.arrival > back and (answered := decode.answered_ms(row)) is not None:
            (old if answered < back else new).append(row.arrival)
    return bool(new) and max(new) > max(old, default=back) + 5000


def _told(rows: Sequence[decode.Row], gone: float, back: float, killed: float | None) -> dict[str, float | None]:
    """What became of the sweeps that were read in the outage."""
    arrivals: dict[str, dict[int, tuple[float, float]]] = defaultdict(dict)
    repeated = 0
    for row in rows:
        number, answered = row.values.get("n"), decode.answered_ms(row)
        if number is not None and answered is not None:
            repeated += int(number) in arrivals[row.device]
            arrivals[row.device].setdefault(int(number), (answered, row.arrival))
    inside = [v for each in arrivals.values() for v in each.values() if gone <= v[0] < back]
    late = [arrival for _, arrival in inside if arrival > back]
    lost = [moment for each in arrivals.values() for moment in _missing(each)]
    window = (LOSS_WINDOW_S + COMMIT_S) * 1000
    excused = 0 if killed is None else sum(killed - window <= moment <= killed for moment in lost)
    came_back = any(row.arrival > back for row in rows)  # of who did not, nobody knows what it has read
    return {
        "delivered": len(inside),
        "lost": len(lost) if came_back else None,
        "lost_beyond": len(lost) - excused if came_back else None,
        "all_after_s": (max(late) - back) / 1000 if late else None,
        "first_after_s": (min(late) - back) / 1000 if late else None,
        "repeated": repeated,
    }


def _missing(sweeps: dict[int, tuple[float, float]]) -> Iterator[float]:
    """When the sweeps were read that are missing between others of the device, ms."""
    for before, after in pairwise(sorted(sweeps)):
        for number in range(before + 1, after):
            yield sweeps[before][0] + 1000 * (number - before)


OUTAGE_SCENARIOS: dict[str, Callable[[Sequence[System], bool], Iterator[Step]]] = {
    "broker-restart": _restarts,
    "outage": lambda systems, quick: _outage(systems, quick, kill=False),
    "outage-kill": lambda systems, quick: _outage(systems, quick, kill=True),
}
