"""A step of the run: one system, or several side by side, through one scenario."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from rig import Failed, Sleep
from systems import System

Figures = dict[str, float | None] | str
"""Figures by name; or, as text, why there are none."""


class Step(NamedTuple):
    scenario: str
    label: str
    seconds: float
    """Planned, for the progress bar."""
    run: Callable[[Sleep], dict[str, Figures]]


def guarded(system: System, measure: Callable[[System, Sleep], Figures]) -> Callable[[Sleep], dict[str, Figures]]:
    def run(sleep: Sleep) -> dict[str, Figures]:
        try:
            return {system.name: measure(system, sleep)}
        except (Failed, OSError) as problem:
            return {system.name: str(problem)}

    return run


def together(
    systems: Sequence[System], measure: Callable[[System, Sleep], Figures]
) -> Callable[[Sleep], dict[str, Figures]]:
    """The systems side by side, each with its own rig."""

    def run(sleep: Sleep) -> dict[str, Figures]:
        stopped = threading.Event()

        def pause(seconds: float) -> None:
            if stopped.wait(max(0.0, seconds)):
                raise Failed("stopped")

        with ThreadPoolExecutor(len(systems)) as pool:
            try:
                running = [pool.submit(guarded(s, measure), pause) for s in systems]
                while not all(r.done() for r in running):
                    sleep(0.2)
            finally:
                stopped.set()
        return {name: figures for r in running for name, figures in r.result().items()}

    return run
