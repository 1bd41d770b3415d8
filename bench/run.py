"""Measures the agent beside its peers and writes bench/RESULTS.md.

    python bench/run.py                      everything, about nine minutes
    python bench/run.py --quick              shorter windows, one round, about three minutes
    python bench/run.py typical ours plain   only these scenarios and systems; the rest of RESULTS.md is then missing

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
from pathlib import Path

import report
from progress import Bar
from rig import broker_binary
from scenarios import SCENARIOS, Step, plan
from systems import BUILD, HERE, SYSTEMS, install


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"scenarios: {', '.join(SCENARIOS)}; systems: {', '.join(SYSTEMS)}")
    parser.add_argument("--quick", action="store_true", help="shorter windows and one round")
    parser.add_argument("--output", type=Path, default=HERE / "RESULTS.md", help="default: bench/RESULTS.md")
    args = parser.parse_args()
    if unknown := [n for n in args.names if n not in SCENARIOS and n not in SYSTEMS]:
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


def measure(steps: list[Step], args: argparse.Namespace) -> int:
    began, load = time.monotonic(), os.getloadavg()[0]
    notes = _prepare(args.names)
    results: report.Results = {}
    bar = Bar([s.seconds for s in steps])
    try:
        for step in steps:
            bar.begin(step.label)
            for system, figures in step.run(bar.sleep).items():
                results.setdefault(step.scenario, {}).setdefault(system, []).append(figures)
                if isinstance(figures, str):
                    bar.say(f"  {system}: {figures}")
    finally:
        bar.stop()
    spent = time.monotonic() - began
    quick = "quick: one round of short windows, for a look only; " if args.quick else ""
    notes.append(f"{quick}took {spent / 60:.1f} minutes; load average at the start {load:.2f}")
    if load > 0.5:
        notes.append("the machine was not quiet: the ratios stand, the absolute figures do not")
    (BUILD / "last.json").write_text(json.dumps(results, indent=1))
    args.output.write_text(report.render(results, BUILD, notes))
    print(f"{args.output} written in {spent / 60:.1f} minutes")
    return 0


def _prepare(names: list[str]) -> list[str]:
    """Private environments of the peers; returns what could not be installed, as notes."""
    BUILD.mkdir(exist_ok=True)
    chosen = [s for s in SYSTEMS.values() if s.name in names] or list(SYSTEMS.values())
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
