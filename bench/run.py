"""Measures the agent beside its peers and writes bench/RESULTS.md and, of what concerns the store, bench/DURABILITY.md.

    python bench/run.py                      everything, about an hour
    python bench/run.py --quick              shorter windows, one round, about fifteen minutes
    python bench/run.py typical ours plain   only these scenarios and systems; the rest of their page is then missing,
                                             and the other page stays as it is
    python bench/run.py durability           all scenarios of DURABILITY.md

Ctrl-C ends it and everything it started.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import report
import store_report
from fault_scenarios import FAULT_SCENARIOS
from figures import Results
from line_scenarios import LINE_SCENARIOS
from line_systems import LINE_SYSTEMS
from outage_scenarios import OUTAGE_SCENARIOS
from progress import Bar
from rig import broker_binary
from scenarios import SCENARIOS
from step import Step
from store_scenarios import STOCK, STORE_SCENARIOS
from systems import BUILD, HERE, SYSTEMS, System, install

ON_LINES = LINE_SCENARIOS | FAULT_SCENARIOS
DURABILITY = STORE_SCENARIOS | OUTAGE_SCENARIOS
ALL_SCENARIOS = SCENARIOS | ON_LINES | DURABILITY
ALL_SYSTEMS = LINE_SYSTEMS | SYSTEMS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="*", help=f"scenarios: {', '.join(ALL_SCENARIOS)}; systems: {', '.join(ALL_SYSTEMS)}"
    )
    parser.add_argument("--quick", action="store_true", help="shorter windows and one round")
    parser.add_argument("--output", type=Path, default=HERE, help="folder of the pages; default: bench")
    args = parser.parse_args()
    args.names = [n for name in args.names for n in (DURABILITY if name == "durability" else [name])]
    if unknown := [n for n in args.names if n not in ALL_SCENARIOS and n not in ALL_SYSTEMS]:
        parser.error(f"unknown name: {', '.join(unknown)}")
    if broker_binary() is None:
        print("bench: mosquitto is not installed. Run: sudo apt-get install mosquitto", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return measure(plan(args.names, args.quick), args)
    except KeyboardInterrupt:
        print("bench: stopped; nothing was written", file=sys.stderr)
        return 130


def plan(names: list[str], quick: bool) -> list[Step]:
    """The steps for the named scenarios and systems; nothing named: all of them."""
    wanted = [n for n in ALL_SCENARIOS if n in names] or list(ALL_SCENARIOS)
    steps = []
    for name in wanted:
        systems = _named(LINE_SYSTEMS if name in ON_LINES else SYSTEMS, names)
        for step in ALL_SCENARIOS[name](systems, quick):
            if step.scenario != STOCK or step.label not in {s.label for s in steps}:
                steps.append(step)
    return steps


def _named(systems: Mapping[str, System], names: list[str]) -> list[System]:
    """The systems that are named; all when no system is."""
    anybody = any(n in ALL_SYSTEMS for n in names)
    return [s for n, s in systems.items() if n in names or not anybody]


def measure(steps: list[Step], args: argparse.Namespace) -> int:
    began, load = time.monotonic(), os.getloadavg()[0]
    notes = _prepare(args.names)
    results: Results = {}
    took = dict.fromkeys(("RESULTS.md", "DURABILITY.md"), 0.0)
    bar = Bar([s.seconds for s in steps])
    try:
        for step in steps:
            bar.begin(step.label)
            step_began = time.monotonic()
            for system, figures in step.run(bar.sleep).items():
                results.setdefault(step.scenario, {}).setdefault(system, []).append(figures)
                if isinstance(figures, str):
                    bar.say(f"  {system}: {figures}")
            took[page_of(step)] += time.monotonic() - step_began
    finally:
        bar.stop()
    (BUILD / "last.json").write_text(json.dumps(results, indent=1))
    if load > 0.5:
        notes.append("the machine was not quiet: the ratios stand, the absolute figures do not")
    for page, render in (("RESULTS.md", report.render), ("DURABILITY.md", store_report.render)):
        if spent := took[page]:
            quick = "quick: one round of short windows, for a look only; " if args.quick else ""
            ran = f"{quick}took {spent / 60:.1f} minutes; load average at the start {load:.2f}"
            (args.output / page).write_text(render(results, BUILD, [ran, *notes]))
            print(f"{args.output / page} written")
    print(f"{(time.monotonic() - began) / 60:.1f} minutes")
    return 0


def page_of(step: Step) -> str:
    return "DURABILITY.md" if step.scenario in (*DURABILITY, STOCK) else "RESULTS.md"


def _prepare(names: list[str]) -> list[str]:
    """Private environments of the peers; returns what could not be installed, as notes."""
    BUILD.mkdir(exist_ok=True)
    chosen = _named(ALL_SYSTEMS, names)
    notes = []
    for system in {s.packages: s for s in chosen if s.packages}.values():
        try:
            print(f"bench: environment of {system.packages[0]}", flush=True)
            install(system)
        except (subprocess.CalledProcessError, OSError) as problem:
            said = (getattr(problem, "stderr", "") or str(problem)).strip().splitlines()[-1:]
            notes.append(f"not installed: {system.packages[0]}: {' '.join(said)}")
    return notes


if __name__ == "__main__":
    sys.exit(main())
