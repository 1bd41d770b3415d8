"""RESULTS.md from the figures of one run."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import line_report
from figures import Results, cell, failures, median, number, values
from rig import broker_binary
from systems import HERE, SYSTEMS


class Goal(NamedTuple):
    what: str
    scenario: str
    figure: str
    target: float
    unit: str = ""
    system: str = "ours"
    most: bool = True
    """Whether the target is an upper bound."""


GOALS = (
    Goal("CPU seconds per 1,000 readings, typical, store on", "typical", "cpu_per_1000", 0.05, "s"),
    Goal("memory (PSS), typical", "typical", "pss_mib", 42, "MiB"),
    Goal("threads", "typical", "threads", 4),
    Goal("import of the run path", "import", "import_s", 0.45, "s"),
    Goal("idle (20 devices, period 60 s): share of one core", "idle", "core_percent", 0.5, "%"),
    Goal('readings/s, `every = "asap"`, four endpoints', "asap", "rate", 50_000, "", most=False),
    Goal("start to first reading at the broker", "typical", "start_s", 0.8, "s"),
    Goal("start to first poll without a broker", "start", "first_poll_s", 0.8, "s"),
    Goal("bytes on the wire per reading (MQTT + TCP/IP), typical", "typical", "wire", 5, "B"),
    Goal("bytes to disk per reading, typical, online (one minute)", "away", "disk_online", 1, "B"),
    Goal("bytes to disk per reading, broker away, insert + free", "away", "disk_away", 45, "B"),
    Goal('delay device to IOC, p50, `linger = "1s"`', "typical", "delay_p50", 0.7, "s"),
    Goal('delay device to IOC, p99, `linger = "1s"`', "typical", "delay_p99", 1.3, "s"),
    Goal('delay device to IOC, p50, `linger = "0s"`', "typical", "delay_p50", 0.05, "s", "ours-0s"),
    Goal('delay device to IOC, p99, `linger = "0s"`', "typical", "delay_p99", 0.2, "s", "ours-0s"),
    Goal("bytes of a batch per reading, 60 readings (15 meters x 4 tags)", "sizes", "size_60", 9, "B"),
    Goal("bytes of a batch per reading, 600 readings", "sizes", "size_600", 2.5, "B"),
    Goal("error of a reading's time, p99", "typical", "error_p99", 10, "ms"),
)
PEERS = ("plain", "modpoll", "tb-sqlite", "tb-file")
COLUMNS = {
    "typical": {
        "rate": "readings/s",
        "cpu_per_1000": "CPU s per 1,000",
        "cpu_per_poll_us": "CPU us per poll",
        "core_percent": "% of a core",
        "pss_mib": "PSS MiB",
        "threads": "threads",
        "start_s": "start to first reading s",
        "wire": "wire B per reading",
        "disk": "disk B per reading",
        "delay_p50": "delay p50 s",
        "delay_p99": "delay p99 s",
        "error_p50": "time error p50 ms",
        "error_p99": "time error p99 ms",
        "lost": "lost sweeps",
        "repeated": "repeated",
        "wrong": "wrong or torn",
    },
    "asap": {
        "rate": "readings/s",
        "cpu_per_1000": "CPU s per 1,000",
        "core_percent": "% of a core",
        "pss_mib": "PSS MiB",
        "wire": "wire B per reading",
        "disk": "disk B per reading",
        "delay_p50": "delay p50 s",
        "delay_p99": "delay p99 s",
        "lost": "lost sweeps",
        "repeated": "repeated",
        "wrong": "wrong or torn",
    },
    "idle": {"core_percent": "% of a core", "pss_mib": "PSS MiB", "threads": "threads"},
    "start": {"first_poll_s": "start to first poll without a broker s"},
    "sizes": {"size_60": "60 readings a batch, B", "size_600": "600 readings a batch, B"},
    "import": {"import_s": "import s", "extra": "of rich and typer loaded"},
    "away": {
        "disk_online": "disk B per reading, online",
        "disk_away": "disk B per reading, away, until drained",
        "disk_away_to_the_end": "the same, and the clean stop",
        "stored": "readings while away",
        "reconnect_s": "back to first message s",
        "drain_s": "back to last old reading s",
        "lost": "lost sweeps",
        "repeated": "repeated",
    },
}
TITLES = {
    "typical": "Typical: 20 devices x 14 readings, every second",
    "asap": "As fast as possible: the same 20 devices",
    "idle": "Idle: period 60 s",
    "start": "Start without a broker",
    "sizes": "Size of a batch: 15 meters x 4 tags, envelope included, median of nine random walks",
    "import": "Import of what a run needs",
    "away": "Broker away",
}


def _ratio(mine: float | None, theirs: float | None) -> str:
    if mine is None or not theirs:
        return "-"
    ratio = mine / theirs
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.2g}"


def _summary(results: Results) -> list[str]:
    lines = [
        "## Targets",
        "",
        "Ratios: ours divided by the peer's figure of the same run (below 1: ours is smaller).",
        "",
        "| what | target | ours | met | / plain loop | / modpoll | / TB SQLite | / TB files |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for goal in GOALS:
        mine = median(results, goal.scenario, goal.system, goal.figure)
        met = "-" if mine is None else "yes" if (mine <= goal.target) == goal.most or mine == goal.target else "**no**"
        scenario, figure = ("typical", "disk") if goal.figure.startswith("disk_") else (goal.scenario, goal.figure)
        ratios = [_ratio(mine, median(results, scenario, peer, figure)) for peer in PEERS]
        sign = "<=" if goal.most else ">="
        cells = (goal.what, f"{sign} {goal.target:,g} {goal.unit}".strip(), number(mine), met, *ratios)
        lines.append(f"| {' | '.join(cells)} |")
    ours, plain = (median(results, "typical", s, "cpu_per_poll_us") for s in ("ours", "plain"))
    ratio = ours / plain if ours and plain else None
    met = "-" if ratio is None else "yes" if ratio <= 1.0 else "**no**"
    name = "CPU per poll against the plain loop, store on"
    lines.append(f"| {name} | <= 1.0 | {number(ratio)} | {met} | {number(ratio)} | - | - | - |")
    return [*lines, ""]


def _table(results: Results, scenario: str) -> list[str]:
    found = results.get(scenario, {})
    if not found:
        return []
    columns = COLUMNS[scenario]
    lines = [
        f"## {TITLES[scenario]}",
        "",
        f"| system | {' | '.join(columns.values())} |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name, system in SYSTEMS.items():
        if name not in found:
            continue
        cells = [cell(values(results, scenario, name, figure)) for figure in columns]
        lines.append(f"| {system.label} | {' | '.join(cells)} |")
    return [*lines, "", *failures(results, scenario, {n: s.label for n, s in SYSTEMS.items()})]


def machine(disk: Path) -> list[str]:
    cpu = next((v for k, v in _pairs("/proc/cpuinfo", ":") if k == "model name"), platform.machine())
    ram = next(int(v.split()[0]) for k, v in _pairs("/proc/meminfo", ":") if k == "MemTotal") / 2**20
    system = next((v.strip('"') for k, v in _pairs("/etc/os-release", "=") if k == "PRETTY_NAME"), platform.system())
    packages = ("pymodbus", "aiomqtt", "paho-mqtt", "msgpack")
    df = ["df", "--output=fstype", str(disk)]
    kind = subprocess.run(df, capture_output=True, text=True, check=False).stdout.split()[-1:]
    # mosquitto -h answers with exit code 1 and its version in the first line
    asked = subprocess.run([broker_binary() or "false", "-h"], capture_output=True, text=True, check=False)
    broker = asked.stdout.partition("\n")[0]
    versions = ", ".join(f"{p} {metadata.version(p)}" for p in packages)
    return [
        f"- {datetime.now(UTC):%d %b %Y %H:%M} UTC",
        f"- {cpu}, {os.cpu_count()} cores, {ram:.1f} GiB RAM, disk {' '.join(kind)}",
        f"- {system}, Linux {platform.release()}",
        f"- Python {sys.version.split()[0]}; {versions}; {broker or 'mosquitto'}",
    ]


def _pairs(file: str, separator: str) -> list[tuple[str, str]]:
    lines = Path(file).read_text().splitlines()
    return [(k.strip(), v.strip()) for k, _, v in (line.partition(separator) for line in lines)]


def _simulator(results: Results) -> list[str]:
    lines = []
    for kind, found in results.get("simulator", {}).items():
        can = found[0]
        if isinstance(can, dict):
            pipelined, single = number(can["pipelined"]), number(can["one_at_a_time"])
            text = f"{kind}. On one connection it answers {pipelined} reads of 20 registers per second when 500 are"
            text += f" asked at once, and {single} one after the other (limited by the client that asks)."
            lines = ["## What the field simulator can do", "", text, ""]
    return lines


def render(results: Results, disk: Path, notes: Sequence[str]) -> str:
    """The whole page."""
    parts = ["# Results of `make bench`", "", "Written by the run; do not edit.", "", *machine(disk)]
    parts += [*(f"- {n}" for n in notes), "", *_summary(results)]
    for scenario in TITLES:
        parts += _table(results, scenario)
    parts += line_report.tables(results)
    parts += [*_simulator(results), (HERE / "method.md").read_text()]
    return "\n".join(parts)
