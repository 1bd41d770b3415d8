"""The faults that the gateway is held against, each with its id, and what came of it.

A fault is a function that injects it so many times and says what a ledger outside the agent has seen. `make faults`
runs all of them many times and writes docs/faults.md; `make test` runs those with `quick` a few times.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the ledger says. `lost`: readings beyond what the promise allows; `wrong`: values that no device held.

    `duplicated` are messages that came more than once, under one key; `recovered` is the longest time in seconds from
    the end of the fault until the gateway worked as before, None where that is no question.
    """

    injected: int
    lost: int = 0
    duplicated: int = 0
    wrong: int = 0
    recovered: float | None = None
    note: str = ""

    @property
    def passed(self) -> bool:
        return self.injected > 0 and self.lost == 0 and self.wrong == 0


@dataclass(frozen=True, slots=True)
class Round:
    """What a fault is given: how often to inject, a folder of its own, a source of chance that can be repeated."""

    times: int
    folder: Path
    chance: random.Random


class NotHere(Exception):
    """The fault cannot be injected on this machine; the text says what is missing."""


Inject = Callable[[Round], Coroutine[Any, Any, Outcome]]


@dataclass(frozen=True, slots=True)
class Fault:
    """`times` in `make faults`; `quick` in `make test`, 0: not there. `alone`: nothing else may run beside it."""

    id: str
    title: str
    expected: str
    times: int
    quick: int
    inject: Inject
    alone: bool = False


FAULTS: dict[str, Fault] = {}
ROOMS = ("power", "net", "time", "bus")
"""What the files with faults are called: <room>_<what>.py."""


EVERY = 10**9
"""As many times as there are steps to fail at."""


def fault(
    id_: str, title: str, expected: str, *, times: int, quick: int = 0, alone: bool = False
) -> Callable[[Inject], Inject]:
    """Enter a function into the catalogue. `expected` is what the gateway does about it, in one sentence."""

    def enter(inject: Inject) -> Inject:
        assert id_ not in FAULTS, f"{id_} is there already"
        FAULTS[id_] = Fault(id_, title, expected, times, quick, inject, alone)
        return inject

    return enter


def load() -> list[Fault]:
    """Import every file with faults; returns the catalogue in the order of the ids."""
    folder = Path(__file__).parent
    for room in ROOMS:
        for path in sorted(folder.glob(f"{room}_*.py")):
            importlib.import_module(path.stem)
    return [FAULTS[id_] for id_ in sorted(FAULTS, key=lambda id_: (ROOMS.index(_room(id_)), id_))]


def _room(id_: str) -> str:
    """Room of an id: P01 is of power, N02 of net."""
    return next(room for room in ROOMS if room[0] == id_[0].lower())
