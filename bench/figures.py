"""Figures of a run: where they are found, and how they are written."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from step import Figures

Results = dict[str, dict[str, list[Figures]]]
"""scenario -> system -> one entry per round"""


def median(results: Results, scenario: str, system: str, figure: str) -> float | None:
    found = values(results, scenario, system, figure)
    return statistics.median(found) if found else None


def values(results: Results, scenario: str, system: str, figure: str) -> list[float]:
    found = results.get(scenario, {}).get(system, [])
    return [v for f in found if isinstance(f, dict) and (v := f.get(figure)) is not None]


def number(value: float | None) -> str:
    """Three significant digits, no exponent."""
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 3 if abs(value) < 10 else 1
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def cell(values: Sequence[float]) -> str:
    if not values:
        return "-"
    middle = number(statistics.median(values))
    low, high = number(min(values)), number(max(values))
    return middle if low == high else f"{middle} [{low}..{high}]"


def failures(results: Results, scenario: str, labels: Mapping[str, str]) -> list[str]:
    """A line per reason why a system has no figures."""
    found = results.get(scenario, {})
    said = sorted({f"- {labels[n]}: {f}" for n, rounds in found.items() for f in rounds if isinstance(f, str)})
    return [*said, *([""] if said else [])]
