"""What is measured: each scenario runs systems on the rig and returns figures."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
from collections.abc import Callable, Iterator, Sequence

import decode
import field
import sizes
from rig import Failed, Rig, Sleep, Window
from step import Figures, Step, guarded
from systems import BUILD, ROOT, System


def _simulator(_systems: Sequence[System], quick: bool) -> Iterator[Step]:
    seconds = 0.5 if quick else 2.0

    def run(_sleep: Sleep) -> dict[str, Figures]:
        can = field.capability(BUILD, seconds)
        return {can.kind: {"pipelined": can.pipelined, "one_at_a_time": can.one_at_a_time}}

    yield Step("simulator", "what the field simulator can do", 2 * seconds, run)


def _imports(systems: Sequence[System], quick: bool) -> Iterator[Step]:
    """Each in a fresh interpreter; the first run fills the cache of compiled files and does not count."""

    def measure(system: System, _sleep: Sleep) -> Figures:
        source = (
            f"import sys, time\nbefore = time.perf_counter()\n{system.probe}\nafter = time.perf_counter()\n"
            "print(after - before, sum(name in sys.modules for name in ('rich', 'typer')))"
        )
        taken, extra = [], 0
        for _ in range(4 if quick else 6):
            ran = subprocess.run(
                [system.python, "-c", source],
                cwd=BUILD if system.packages else ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
            if ran.returncode:
                raise Failed(f"import failed: {ran.stderr.strip().splitlines()[-1]}")
            words = ran.stdout.split()
            taken.append(float(words[-2]))
            extra = int(words[-1])
        return {"import_s": statistics.median(taken[1:]), "extra": extra}

    for system in systems:
        if system.name not in ("ours-0s", "tb-file"):
            yield Step("import", f"import: {system.label}", 3, guarded(system, measure))


def _sizes(_systems: Sequence[System], _quick: bool) -> Iterator[Step]:
    def run(_sleep: Sleep) -> dict[str, Figures]:
        figures = {
            f"size_{60 * rows}": statistics.median(sizes.bytes_per_reading(rows, seed) for seed in range(9))
            for rows in (1, 10)
        }
        return {"ours": figures}

    yield Step("sizes", "size of a batch, reference workload", 1, run)


def _typical(systems: Sequence[System], quick: bool) -> Iterator[Step]:
    rounds, seconds = (1, 4.0) if quick else (3, 10.0)

    def measure(system: System, sleep: Sleep) -> Figures:
        with Rig(system, 1.0, sleep) as rig:
            start = rig.first_reading()
            sleep(2)
            rig.align()
            window = rig.window(seconds)
            sleep(1.6)
            return {"start_s": start, **_of_window(rig, rig.rows(), window)}

    for number in range(rounds):
        for system in systems:
            label = f"typical, round {number + 1} of {rounds}: {system.label}"
            yield Step("typical", label, seconds + 5.5, guarded(system, measure))


def _of_window(
    rig: Rig, rows: Sequence[decode.Row], window: Window, by_arrival: bool = False
) -> dict[str, float | None]:
    """The figures of one window. Costs are per reading that the devices answered in it (or that arrived in it)."""
    before, after = window.before, window.after
    told = decode.tell(rows, before.at, after.at, by_arrival)
    if not told.readings:
        raise Failed(f"no reading in the window; it said: {rig.said()}")
    lost, repeated = decode.lost_and_repeated(rows)
    cpu = after.cpu - before.cpu
    wire = None if before.wire is None or after.wire is None else (after.wire - before.wire) / told.readings
    return {
        "rate": told.rate,
        "cpu_per_1000": cpu / told.readings * 1000,
        "cpu_per_poll_us": cpu / told.readings * len(field.TAGS) * 1e6,
        "core_percent": cpu / (after.at - before.at) * 1e5,
        "pss_mib": window.pss_mib,
        "threads": window.threads,
        "wire": wire,
        "disk": (after.written - before.written) / told.readings,
        "delay_p50": told.delay_p50_s,
        "delay_p99": told.delay_p99_s,
        "error_p50": told.error_p50_ms,
        "error_p99": told.error_p99_ms,
        "lost": lost,
        "repeated": repeated,
        "wrong": told.wrong,
    }


def _idle(systems: Sequence[System], quick: bool) -> Iterator[Step]:
    """All systems side by side: together they take less than a fifth of a core; a window holds one whole period."""
    seconds = 8.0 if quick else 60.0
    chosen = [s for s in systems if s.name not in ("ours-0s", "tb-file")]

    def run(sleep: Sleep) -> dict[str, Figures]:
        found: dict[str, Figures] = {}
        with contextlib.ExitStack() as stack:
            rigs = {}
            for system in chosen:
                try:
                    rig = stack.enter_context(Rig(system, 60.0, sleep))
                    rig.first_reading()
                    rigs[system.name] = rig
                except (Failed, OSError) as problem:
                    found[system.name] = str(problem)
            sleep(3)
            begun = {name: rig.window(0) for name, rig in rigs.items()}
            sleep(seconds)
            for name, rig in rigs.items():
                try:
                    before, after = begun[name].before, rig.window(0)
                except Failed as problem:
                    found[name] = str(problem)
                    continue
                share = (after.after.cpu - before.cpu) / (after.after.at - before.at) * 1e5
                found[name] = {"core_percent": share, "pss_mib": after.pss_mib, "threads": after.threads}
        return found

    if chosen:
        yield Step("idle", f"idle, period 60 s: {len(chosen)} systems side by side", seconds + 12, run)


def _asap(systems: Sequence[System], quick: bool) -> Iterator[Step]:
    windows, seconds = 3, (1.0 if quick else 3.4)

    def measure(system: System, sleep: Sleep) -> Figures:
        with Rig(system, 0.0, sleep) as rig:
            rig.first_reading()
            sleep(2)
            taken = [rig.window(seconds) for _ in range(windows)]
            sleep(0.5)
            rig.stop_system()
            sleep(0.3)
            rows = rig.rows()
            each = [_of_window(rig, rows, w, by_arrival=True) for w in taken]
        return {k: _median([e[k] for e in each]) for k in each[0]}

    for system in systems:
        if system.name not in ("ours-0s", "tb-file"):
            yield Step("asap", f"as fast as possible: {system.label}", windows * seconds + 6, guarded(system, measure))


def _median(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return statistics.median(known) if known else None


def _start(systems: Sequence[System], quick: bool) -> Iterator[Step]:
    def measure(system: System, sleep: Sleep) -> Figures:
        with Rig(system, 1.0, sleep, broker=False) as rig:
            rig.until("its first poll", lambda: rig.field.stats()[1] > 0, timeout=8)
            return {"first_poll_s": (rig.field.stats()[1] - rig.started) / 1000}

    for system in systems:
        if system.name in ("ours-0s", "tb-file"):
            continue
        for _ in range(3 if system.name == "ours" and not quick else 1):
            yield Step("start", f"start without a broker: {system.label}", 2, guarded(system, measure))


def _away(systems: Sequence[System], quick: bool) -> Iterator[Step]:
    """One minute online holds one commit of the state row; then the broker is stopped, and comes back."""
    online, outage, patience = (5.0, 8.0, 40.0) if quick else (60.0, 30.0, 90.0)

    def measure(system: System, sleep: Sleep) -> Figures:
        with Rig(system, 1.0, sleep) as rig:
            rig.first_reading()
            sleep(2)
            rig.align()
            window = rig.window(online)
            sleep(1.5)
            rig.align()
            gone = rig.window(0).after
            rig.stop_broker()
            sleep(outage)
            rig.start_broker()
            back = rig.window(0).after
            rig.until("drained", lambda: _drained(rig.rows(), back.at), patience)
            drained = rig.window(0).after
            written = rig.stop_system()
            sleep(0.5)
            rows = rig.rows()
        first = min(r.arrival for r in rows if r.arrival > back.at)
        stored = decode.tell(rows, gone.at, first).readings
        lost, repeated = decode.lost_and_repeated(rows)
        steady = decode.tell(rows, window.before.at, window.after.at).readings
        late = [r.arrival for r in rows if (a := decode.answered_ms(r)) is not None and gone.at < a < first]
        return {
            "disk_online": (window.after.written - window.before.written) / steady,
            "disk_away": (drained.written - gone.written) / stored,
            "disk_away_to_the_end": (written - gone.written) / stored,
            "stored": stored,
            "reconnect_s": (first - back.at) / 1000,
            "drain_s": (max(late) - back.at) / 1000,
            "lost": lost,
            "repeated": repeated,
        }

    for system in systems:
        if system.name == "ours":
            yield Step(
                "away", f"broker away {outage:g} s: {system.label}", online + outage + 20, guarded(system, measure)
            )


def _drained(rows: list[decode.Row], back: float) -> bool:
    """Whether new readings arrive again and the last old one came 3 s ago."""
    old, new = [], []
    for row in rows:
        if row.arrival > back and (answered := decode.answered_ms(row)) is not None:
            (old if answered < back else new).append(row.arrival)
    return bool(new) and max(new) > max(old, default=back) + 3000


SCENARIOS: dict[str, Callable[[Sequence[System], bool], Iterator[Step]]] = {
    "simulator": _simulator,
    "import": _imports,
    "sizes": _sizes,
    "typical": _typical,
    "idle": _idle,
    "asap": _asap,
    "start": _start,
    "away": _away,
}
