"""Runs the catalogue of faults: `make faults`. Exit code 1 on any loss beyond the promise, or any wrong value.

    python tests/faults/run.py                 all of them; writes docs/faults.md
    python tests/faults/run.py P02 N04         these
    python tests/faults/run.py P02 --seed 7    the same chance as before

Each fault runs in a process of its own, two at a time but for those that must be alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE)]

import page  # noqa: E402
from catalogue import Fault, NotHere, Outcome, Round, load  # noqa: E402
from rich.progress import (  # noqa: E402
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

AT_ONCE = 2
_RAISED = re.compile(r"[\w.]+(Error|Exception|Timeout)\b")
"""The line of a traceback that says what it was; an agent's log may follow it."""
LONGEST = 1200.0
"""Seconds that one fault may take."""


@dataclass
class Board:
    """What has come of the faults so far, and the bar that shows it."""

    bar: Progress
    task: TaskID
    seed: int
    rows: list[page.Row]

    async def run(self, fault: Fault) -> None:
        """Inject one fault and print its line."""
        self.bar.update(self.task, description=f"{fault.id} {fault.title}"[:60])
        began = time.monotonic()
        row = page.Row(fault, **(await in_process(fault, self.seed)), seconds=time.monotonic() - began)
        self.rows.append(row)
        self.bar.console.print(page.line(row), highlight=False, markup=False, soft_wrap=True)
        self.bar.advance(self.task)


async def in_process(fault: Fault, seed: int) -> dict[str, object]:
    """Run one fault in a process of its own: its outcome, or why there is none."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        "--one",
        fault.id,
        "--seed",
        str(seed),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"GATEWAY_STRICT": "1"},
    )
    try:
        async with asyncio.timeout(LONGEST):
            said, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return {"broken": f"did not end within {LONGEST:.0f} s"}
    if process.returncode:
        lines = errors.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        return {"broken": next(filter(_RAISED.match, reversed(lines)), lines[-1])}
    answer = json.loads(said.splitlines()[-1])
    return answer if "not_here" in answer else {"outcome": Outcome(**answer)}


def one(fault: Fault, seed: int) -> None:
    """Inject one fault here and print what came of it as one line of JSON. What a failure leaves is kept."""
    folder = tempfile.mkdtemp(prefix=f"gateway-fault-{fault.id}-")
    round_ = Round(fault.times, Path(folder), random.Random(f"{fault.id} {seed}"))
    try:
        outcome = asyncio.run(fault.inject(round_))
        answer = asdict(outcome if outcome.passed else replace(outcome, note=f"{outcome.note}; see {folder}"))
    except NotHere as missing:
        answer = {"not_here": str(missing)}
    print(json.dumps(answer))  # noqa: T201
    if answer.get("not_here") or outcome.passed:
        shutil.rmtree(folder)


async def run(faults: Sequence[Fault], seed: int) -> list[page.Row]:
    """Run these, two at a time, then those that must be alone."""
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("left"), TimeRemainingColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.description}")) as bar:
        board = Board(bar, bar.add_task("", total=len(faults)), seed, [])
        waiting = iter([fault for fault in faults if not fault.alone])

        async def work() -> None:
            for fault in waiting:
                await board.run(fault)

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(work())
        for fault in faults:
            if fault.alone:
                await board.run(fault)
        bar.update(board.task, description="")
    return [next(row for row in board.rows if row.fault is fault) for fault in faults]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ids", nargs="*", metavar="ID", help="P02, or P for all of power")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="to have the same chance once more")
    parser.add_argument("--one", metavar="ID", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    faults = load()
    if options.one:
        one(next(fault for fault in faults if fault.id == options.one), options.seed)
        return 0
    chosen = [fault for fault in faults if not options.ids or any(fault.id.startswith(name) for name in options.ids)]
    if not chosen:
        parser.error(f"no such fault; there are {', '.join(fault.id for fault in faults)}")
    began = time.monotonic()
    rows = asyncio.run(run(chosen, options.seed))
    if len(chosen) == len(faults):
        (ROOT / "docs" / "faults.md").write_text(page.written(rows, options.seed, time.monotonic() - began))
    print(page.summary(rows, options.seed))  # noqa: T201
    return 0 if all(row.passed for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
