"""What is measured of a line in trouble: wrong values under every simulated fault, and the cost of one that babbles."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from xml.etree import ElementTree as ET

from line_rig import LineRig, Work
from line_scenarios import FAST
from rig import Failed, Sleep, end
from step import Figures, Step, guarded
from systems import BUILD, ROOT, System

TESTS = "tests/field/faults/test_wrong_values.py"
FOUND = BUILD / "wrong-values.xml"
"""What pytest found, in words: it stays for whoever has to look for the cause."""
BABBLE_S = 10.0
PATIENCE_S = 20.0
"""How long a line may stay away before that is a failure and no figure."""


def _faults(systems: Sequence[System], quick: bool) -> Iterator[Step]:
    """The test that polls on virtual time under each fault, with as many polls as a table is worth."""
    polls, seconds = (600, 40.0) if quick else (10_000, 300.0)

    def measure(_system: System, sleep: Sleep) -> Figures:
        _run_tests(polls, sleep)
        cases = list(ET.parse(FOUND).getroot().iter("testcase"))
        wrong = [case for case in cases if len(case)]
        for case in wrong:
            if not case[0].get("message", "").startswith("AssertionError"):
                raise Failed(f"{case.get('name')} told no result: {case[0].get('message')}")
        return {"wrong_runs": len(wrong), "runs": len(cases), "polls": len(cases) * polls}

    for system in systems:
        if system.name == "ours":
            yield Step("faults", f"{polls} polls under each fault: {system.label}", seconds, guarded(system, measure))


def _run_tests(polls: int, sleep: Sleep) -> None:
    FOUND.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", TESTS, "--polls", str(polls), "-n", "2", "-q", f"--junitxml={FOUND}"]
    running = subprocess.Popen(
        [*command, "-p", "no:cacheprovider"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )
    try:
        while running.poll() is None:
            sleep(0.2)
    finally:
        end(running)
    if running.returncode not in (os.EX_OK, 1) or not FOUND.exists():
        raise Failed(f"pytest ended with code {running.returncode}: run {TESTS} by itself")


def _babble(systems: Sequence[System], quick: bool) -> Iterator[Step]:
    """At the speed of the line, then as much as the port takes; from its end until a device has answered again."""
    rounds = 1 if quick else 3

    def measure(system: System, sleep: Sleep) -> Figures:
        figures: dict[str, float | None] = {}
        with LineRig(system, Work(FAST, range(1, 6)), sleep) as rig:
            rig.settle(2)
            for name, mode in (("paced", 1), ("flood", 2)):
                rig.lines.tell(f"babble 0 {mode}")
                window = rig.window(BABBLE_S)
                rig.lines.tell("babble 0 0")
                ended = window.after.at
                rig.until("asking again", lambda: _answered_after(rig, ended) is not None, PATIENCE_S)  # noqa: B023
                cpu = window.after.cpu - window.before.cpu
                figures[f"{name}_percent"] = cpu / (ended - window.before.at) * 1e5
                figures[f"{name}_back_s"] = ((_answered_after(rig, ended) or 0.0) - ended) / 1000
                sleep(2)
            sleep(1.6)
            figures["wrong"] = rig.wrong()
        return figures

    for number in range(rounds):
        for system in systems:
            if system.name == "ours":
                label = f"a line that babbles, round {number + 1} of {rounds}: {system.label}"
                yield Step("babble", label, 2 * (BABBLE_S + 5) + 5, guarded(system, measure))


def _answered_after(rig: LineRig, moment: float) -> float | None:
    """When the first request after that was made which a device has answered."""
    return next((r.begin for r in rig.lines.requests() if r.begin > moment and r.sweeps), None)


FAULT_SCENARIOS: dict[str, Callable[[Sequence[System], bool], Iterator[Step]]] = {"faults": _faults, "babble": _babble}
