"""The part of RESULTS.md about serial lines: one table per scenario, figure by figure."""

from __future__ import annotations

import statistics
from typing import NamedTuple

from figures import Results, cell, failures, median, values
from line import shortest
from line_systems import LINE_SYSTEMS


class Figure(NamedTuple):
    key: str
    what: str
    target: float | None = None
    most: bool = True
    """Whether the target is an upper bound."""


_FULL_LINE = (
    Figure("sweeps", "sweeps/s"),
    Figure("broken", "silences broken", 0),
    Figure("requests", "of so many requests"),
    Figure("requests_per_sweep", "requests per sweep"),
    Figure("core_percent", "% of a core"),
    Figure("wrong", "wrong or torn values published", 0),
)
_DEAD = (
    Figure("kept", "rate of the living units against before", 1.35, most=False),
    Figure("kept_worst", "the same, worst unit"),
    Figure("asked_dead", "requests/s to dead units"),
)


def _full_line(efficiency: float) -> tuple[Figure, ...]:
    return (
        Figure("efficiency", "efficiency (1: the limit)", efficiency, most=False),
        Figure("to_master", "against the C master", 0.97, most=False),
        *_FULL_LINE,
    )


SCENARIOS = {
    "line-9600": ("Serial line full, 9600 baud: 10 units, as fast as possible", _full_line(0.95)),
    "line-115200": ("Serial line full, 115200 baud", _full_line(0.90)),
    "dead-9600": ("3 of 10 units fall silent, 9600 baud, 15 s later (ideal 1.43)", _DEAD),
    "dead-115200": ("3 of 10 units fall silent, 115200 baud, 15 s later (ideal 1.43)", _DEAD),
    "crc-115200": (
        "2 % of the answers corrupted, 115200 baud",
        (
            Figure("kept", "rate against clean", 0.95, most=False),
            Figure("wrong", "wrong or torn values published", 0),
            Figure("corrupted", "answers corrupted"),
            Figure("clean", "sweeps/s clean"),
        ),
    ),
    "other-port": (
        "Another port of the same process, 115200 baud",
        (
            Figure("dead", "rate while this port's units are dead", 0.99, most=False),
            Figure("gone", "rate while this port is unplugged", 0.99, most=False),
            Figure("before", "sweeps/s before"),
        ),
    ),
    "noise": (
        "Noise before every answer, unit 5",
        tuple(Figure(f"correct_{n}", f"{n} bytes: % of the answers published, right", 100, False) for n in (1, 2, 4)),
    ),
    "merge": (
        "Requests per poll",
        (
            Figure("adjacent", "10 adjacent points", 1),
            Figure("scattered", "20 points, holes of 2 to 8 registers between them", 1),
        ),
    ),
    "jitter": (
        "Jitter: 5 units every second, 9600 baud",
        (
            Figure("p99", "p99 of the interval's error, worst unit, % of the period", 5),
            Figure("p50", "p50, all units, %"),
        ),
    ),
    "scale": (
        "Scale: 8 lines of 32 units every second, 115200 baud",
        (
            Figure("ratio", "CPU per poll against one line of 32 units", 1.1),
            Figure("one_us", "CPU us per poll, one line"),
            Figure("eight_us", "CPU us per poll, eight lines"),
        ),
    ),
    "command": (
        "Commands on a full line, 9600 baud: from the call to the first byte on the wire",
        (
            Figure("max", "longest, ms (one frame and one time-out)", 1000 * (shortest(9600) + 1)),
            Figure("p99", "p99, ms"),
            Figure("p50", "p50, ms"),
        ),
    ),
    "faults": (
        "Wrong values: fifty units under each simulated fault, one at a time and together, virtual time",
        (
            Figure("wrong_runs", "runs in which a wrong value was told", 0),
            Figure("runs", "runs"),
            Figure("polls", "polls in all"),
        ),
    ),
    "babble": (
        "A line that babbles for 10 s, 115200 baud",
        (
            Figure("paced_percent", "% of a core, bytes at the speed of the line", 20),
            Figure("flood_percent", "% of a core, as many bytes as the port takes", 20),
            Figure("paced_back_s", "s until a device has answered again, speed of the line", 5),
            Figure("flood_back_s", "s until a device has answered again, flood", 5),
            Figure("wrong", "wrong or torn values published", 0),
        ),
    ),
}


def tables(results: Results) -> list[str]:
    return [line for scenario in SCENARIOS if scenario in results for line in _table(results, scenario)]


def _table(results: Results, scenario: str) -> list[str]:
    title, figures = SCENARIOS[scenario]
    found = {n: s.label for n, s in LINE_SYSTEMS.items() if n in results[scenario]}
    lines = [f"## {title}", "", f"| figure | target | met | {' | '.join(found.values())} |"]
    lines.append("|---" * (3 + len(found)) + "|")
    for figure in figures:
        columns = [_values(results, scenario, name, figure.key) for name in found]
        cells = [figure.what, _target(figure), _met(figure, results, scenario), *map(cell, columns)]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, "", *failures(results, scenario, found)]


def _values(results: Results, scenario: str, system: str, key: str) -> list[float]:
    if key != "to_master":
        return values(results, scenario, system, key)
    mine, master = (median(results, scenario, name, "sweeps") for name in (system, "c"))
    return [mine / master] if mine is not None and master else []


def _target(figure: Figure) -> str:
    return "-" if figure.target is None else f"{'<=' if figure.most else '>='} {figure.target:g}"


def _met(figure: Figure, results: Results, scenario: str) -> str:
    mine = _values(results, scenario, "ours", figure.key)
    if figure.target is None or not mine:
        return "-"
    middle = statistics.median(mine)
    return "yes" if (middle <= figure.target if figure.most else middle >= figure.target) else "**no**"
