"""DURABILITY.md from the figures of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from figures import Results, cell, failures, median, number, values
from report import machine
from systems import HERE, SYSTEMS

MEGABYTE = 1e6


class Goal(NamedTuple):
    """`relative`: the figure is divided by the same one of this system."""

    what: str
    target: float
    unit: str
    scenario: str
    system: str
    figure: str
    relative: str = ""
    most: bool = True
    """Whether the target is an upper bound."""


GOALS = (
    Goal("written to flash a day at 20 readings/s: online", 5e6, "MB", "flash", "online", "day"),
    Goal('offline all day, `commit_every = "1s"`', 700e6, "MB", "flash", "offline-1s", "day"),
    Goal('offline all day, `commit_every = "5s"`', 300e6, "MB", "flash", "offline-5s", "day"),
    Goal('online, `durability = "strict"`, `linger = "10s"`', 150e6, "MB", "flash", "strict-10s", "day"),
    Goal(
        "written per reading at 400 readings/s, offline, insert + free, 1 s", 35, "B", "flash", "offline-400-1s", "each"
    ),
    Goal('the same, `commit_every = "5s"`', 20, "B", "flash", "offline-400-5s", "each"),
    Goal(
        "drained after an outage, one core, 60 readings a batch", 50_000, "/s", "drain", "drain-60", "rate", most=False
    ),
    Goal("batches drained, 20 readings a batch", 2_000, "/s", "drain", "drain-20", "batches", most=False),
    Goal("batches drained, 4 readings a batch", 2_000, "/s", "drain", "drain-4", "batches", most=False),
    Goal("delay of a live reading while 1 million drain, p99", 250, "ms", "live", "live", "p99"),
    Goal("RSS with 5 million queued, against empty", 1.15, "x", "backlog-memory", "queued", "rss", "empty"),
    Goal("peak RSS while they drain, against empty", 1.15, "x", "backlog-memory", "queued", "peak", "empty"),
    Goal(
        "start with 5 million queued: time to first poll, against empty",
        1.5,
        "x",
        "restart",
        "clean",
        "first_poll_s",
        "empty",
    ),
    Goal("the same after a kill -9", 1.5, "x", "restart", "killed", "first_poll_s", "empty"),
    Goal("duplicates after a clean restart of the broker, worst one", 20, "", "broker-restart", "ours", "worst"),
    Goal("batches missing after these restarts", 0, "", "broker-restart", "ours", "missing"),
    Goal("broker away, workload typical: sweeps delivered", 100, "%", "outage", "ours", "share", most=False),
    Goal("everything delivered after its return", 3, "s", "outage", "ours", "all_after_s"),
    Goal("kill -9 in the middle: sweeps lost beyond the stated window", 0, "", "outage-kill", "ours", "lost_beyond"),
)
PEERS = ("plain", "modpoll", "tb-sqlite", "tb-file")
_OUTAGE = {
    "delivered": "sweeps read in the outage that arrived",
    "asked": "of so many due",
    "lost": "sweeps lost",
    "lost_beyond": "of these beyond the loss window",
    "repeated": "repeated",
    "first_after_s": "broker back to first old s",
    "all_after_s": "broker back to last old s",
    "runs": "still runs",
}
TABLES: Mapping[str, tuple[str, Mapping[str, str], Mapping[str, str]]] = {
    "flash": (
        "Bytes written to flash",
        {
            "day": "a day, MB",
            "window_day": "of it writing, MB",
            "freed_day": "and freeing, MB",
            "each": "B per reading",
            "window_each": "of it writing",
            "freed_each": "and freeing",
        },
        {
            "online": "20 readings/s, online, one counter a device",
            "offline-1s": '20 readings/s, offline, `commit_every = "1s"`',
            "offline-5s": '20 readings/s, offline, `commit_every = "5s"`',
            "strict-10s": '20 readings/s, online, strict, `linger = "10s"`',
            "offline-400-1s": '400 readings/s, offline, `commit_every = "1s"`',
            "offline-400-5s": '400 readings/s, offline, `commit_every = "5s"`',
        },
    ),
    "drain": (
        "Drain after an outage: the gateway has one core, the rest the others",
        {
            "rate": "readings/s",
            "batches": "batches/s",
            "span": "s in all",
            "cpu_us": "CPU us per batch",
            "freed": "B written per reading, freeing",
            "repeated": "repeated batches",
        },
        {
            "drain-60": "1,000,000 readings, 60 a batch",
            "drain-20": "1,000,000 readings, 20 a batch",
            "drain-4": "200,000 readings, 4 a batch",
        },
    ),
    "live": (
        "Live readings while 1 million drain: 20 devices x 14 readings five times a second, no linger",
        {
            "p50": "p50 ms",
            "p99": "p99 ms",
            "max": "longest ms",
            "polls": "polls",
            "span": "s of draining",
            "calm_p50": "p50 ms after it",
            "calm_p99": "p99 ms after it",
        },
        {"live": "delay, device to IOC"},
    ),
    "backlog-memory": (
        "Memory, broker away; then draining",
        {
            "rss": "RSS MiB",
            "pss": "PSS MiB",
            "peak": "peak RSS MiB, broker back",
            "pss_draining": "PSS MiB then",
            "batches": "batches sent",
        },
        {"empty": "empty store", "queued": "5 million readings queued"},
    ),
    "restart": (
        "Start without a broker: time to first poll",
        {"first_poll_s": "s"},
        {
            "empty": "empty store",
            "clean": "5 million readings queued, stopped",
            "killed": "5 million readings queued, killed",
            "empty-cold": "empty store, not in the kernel's cache",
            "clean-cold": "5 million queued, stopped, not in the cache",
            "killed-cold": "5 million queued, killed, not in the cache",
        },
    ),
    "broker-restart": (
        "Clean restarts of the broker while a backlog drains",
        {
            "restarts": "restarts",
            "worst": "duplicates, worst restart",
            "repeated": "duplicates in all",
            "missing": "batches missing",
            "redelivered": "sent twice by the broker",
            "batches": "batches in all",
        },
        {"ours": "gateway, window 20"},
    ),
    "outage": ("Broker away, workload typical", _OUTAGE, {n: s.label for n, s in SYSTEMS.items()}),
    "outage-kill": (
        "Broker away, kill -9 in the middle, started again 2 s later",
        _OUTAGE,
        {n: s.label for n, s in SYSTEMS.items()},
    ),
}
_BYTES = {"day", "window_day", "freed_day"}


def _summary(results: Results) -> list[str]:
    lines = [
        "## Targets",
        "",
        "Peers have no figure where they have nothing to be measured: no store, or no such promise.",
        "",
        "| what | target | ours | met | plain loop | modpoll | TB SQLite | TB files |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for goal in GOALS:
        mine = _figure(results, goal, goal.system)
        met = (
            "-" if mine is None else "yes" if (mine <= goal.target if goal.most else mine >= goal.target) else "**no**"
        )
        peers = [_figure(results, goal, peer) if goal.system == "ours" else None for peer in PEERS]
        target = f"{'<=' if goal.most else '>='} {_shown(goal, goal.target)}"
        cells = (goal.what, f"{target} {goal.unit}".strip(), _shown(goal, mine), met, *(_shown(goal, p) for p in peers))
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _figure(results: Results, goal: Goal, system: str) -> float | None:
    found = median(results, goal.scenario, system, goal.figure)
    if found is None or not goal.relative:
        return found
    against = median(results, goal.scenario, goal.relative, goal.figure)
    return found / against if against else None


def _shown(goal: Goal, value: float | None) -> str:
    return number(value / MEGABYTE if value is not None and goal.unit == "MB" else value)


def _table(results: Results, scenario: str) -> list[str]:
    title, columns, systems = TABLES[scenario]
    lines = [f"## {title}", "", f"| | {' | '.join(columns.values())} |", "|---" * (len(columns) + 1) + "|"]
    for name, label in systems.items():
        if name in results[scenario]:
            cells = [_cell(results, scenario, name, figure) for figure in columns]
            lines.append(f"| {label} | {' | '.join(cells)} |")
    return [*lines, "", *failures(results, scenario, systems)]


def _cell(results: Results, scenario: str, name: str, figure: str) -> str:
    found = values(results, scenario, name, figure)
    return cell([v / MEGABYTE for v in found] if figure in _BYTES else found)


def render(results: Results, disk: Path, notes: Sequence[str]) -> str:
    """The whole page."""
    parts = ["# Durability: what `make bench` measured", "", "Written by the run; do not edit.", "", *machine(disk)]
    parts += [*(f"- {n}" for n in notes), "", *_summary(results)]
    for scenario in TABLES:
        if scenario in results:
            parts += _table(results, scenario)
    return "\n".join([*parts, (HERE / "durability_method.md").read_text()])
