"""How the outcome of the faults is told: a line on the terminal, and docs/faults.md."""

from __future__ import annotations

import os
import platform
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from catalogue import Fault, Outcome

_HEAD = """# Faults

Written by `make faults`; do not edit. What the gateway promises, and what came of breaking everything around it.

> At most the last two seconds that the IOC had not yet confirmed can be lost to a power cut or a killed process
> (`durability = "strict"`: nothing that was stored or published). Everything older reaches the IOC at least once, under
> a key that makes it exactly once; live data of a device in order, backlog in order and flagged. The store has a hard
> size. When it is full the oldest of the lowest priority goes, and the exact range is reported. A damaged store costs
> at most the damaged part, never the service. A wrong clock never reorders, duplicates or expires anything.

The oracle is a ledger outside the agent: what it had said to be stored or had published, against what was found or had
arrived in the end. *Lost* counts readings beyond the promise, *wrong* values that no device held; both must be 0.
*Duplicated* are messages that came more than once, under one key: the receiver drops them. *Recovered* is the longest
time in seconds from the end of the fault until the gateway worked as before.

`make faults ARGS="P02 N04"` runs some of them, `make test` a short form of those that are quick.
"""
_COLUMNS = ("id", "fault", "what must happen", "injected", "lost", "duplicated", "wrong", "recovered", "took", "note")


@dataclass(frozen=True, slots=True)
class Row:
    """A fault and what came of it: an outcome, or why it cannot be injected here, or why it broke."""

    fault: Fault
    seconds: float
    outcome: Outcome | None = None
    not_here: str = ""
    broken: str = ""

    @property
    def passed(self) -> bool:
        return bool(self.not_here) or (self.outcome is not None and self.outcome.passed)

    @property
    def note(self) -> str:
        if self.outcome is None:
            return f"not possible here: {self.not_here}" if self.not_here else f"BROKEN: {self.broken}"
        return self.outcome.note if self.passed else f"FAILED: {self.outcome.note}"


def _figures(row: Row) -> list[str]:
    found = row.outcome
    if found is None:
        return ["-"] * 5
    recovered = "-" if found.recovered is None else f"{found.recovered:.1f}"
    return [f"{found.injected:,}", str(found.lost), str(found.duplicated), str(found.wrong), recovered]


def line(row: Row) -> str:
    """One line for the terminal."""
    injected, lost, duplicated, wrong, recovered = _figures(row)
    figures = f"injected {injected:>6}  lost {lost}  duplicated {duplicated}  wrong {wrong}  recovered in {recovered} s"
    return f"{row.fault.id:<10} {figures}  {row.fault.title}{row.note and ': ' + row.note}"


def summary(rows: Sequence[Row], seed: int) -> str:
    failed = [row.fault.id for row in rows if not row.passed]
    skipped = sum(bool(row.not_here) for row in rows)
    injected = sum(row.outcome.injected for row in rows if row.outcome)
    text = f"{len(rows) - skipped} faults, injected {injected:,} times, {skipped} not possible here; seed {seed}."
    return f"{text} FAILED: {', '.join(failed)}" if failed else f"{text} Nothing lost, nothing wrong."


def written(rows: Sequence[Row], seed: int, seconds: float) -> str:
    """The page docs/faults.md."""
    machine = (
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}; {seconds / 60:.0f} minutes."
    )
    table = ["| " + " | ".join(_COLUMNS) + " |", "|" + "---|" * len(_COLUMNS)]
    for row in rows:
        cells = [row.fault.id, row.fault.title, row.fault.expected, *_figures(row), f"{row.seconds:.0f} s", row.note]
        table.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return "\n".join([_HEAD, summary(rows, seed) + " " + machine, "", *table, ""])
