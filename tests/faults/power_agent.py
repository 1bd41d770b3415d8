"""P01 with the whole agent, P13 to P16: started twice, out of memory, without processor time, months offline."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from catalogue import NotHere, Outcome, Round, fault
from keeping import Keeping, stopped
from power_cuts import memory
from promise import Verdict, judge
from recording import ROOT
from stage import stage

AGED = ROOT / "tests" / "faults" / "aged.py"
CGROUPS = Path("/sys/fs/cgroup")


@fault(
    "P01-agent",
    "The whole agent is killed (kill -9) at a random moment and started again",
    "At most linger + commit_every before the kill are missing, with `strict` no batch that was published.",
    times=200,
    quick=4,
    alone=True,  # what else is busy with the disk would make the window longer
)
async def killed(round_: Round) -> Outcome:
    bounded = await killed_often(round_, round_.times - round_.times // 2, "bounded")
    strict = await killed_often(round_, round_.times // 2, "strict")
    return Outcome(
        bounded.injected + strict.injected,
        bounded.lost + strict.lost,
        bounded.duplicated + strict.duplicated,
        bounded.wrong + strict.wrong,
        max(bounded.recovered or 0, strict.recovered or 0),
        "; ".join(filter(None, [bounded.note, strict.note])),
    )


async def killed_often(round_: Round, times: int, durability: str) -> Outcome:
    store = {"linger": "0.1s", "commit_every": "0.1s", "durability": durability}
    async with stage(round_.folder / durability, every="50ms", store=store) as s:
        for _ in range(times):
            await s.start()
            await s.polled(round_.chance.randint(1, 8))
            await s.kill()
        await s.start()
        recovered = await s.recovered()
        await s.stop()
        outcome = await s.outcome(times, recovered=recovered)
        gaps = s.ledger.gaps([], 0.0) if durability == "strict" else []  # what was published must have no hole at all
        return replace(outcome, lost=outcome.lost + len(gaps), note="; ".join([outcome.note, *gaps[:5]]).strip("; "))


@fault(
    "P13",
    "Several agents are started on one store at once",
    "One runs; the others say who uses the store, and leave.",
    times=20,
    quick=2,
)
async def twice(round_: Round) -> Outcome:
    total = Verdict()
    with memory() as home:
        for turn in range(round_.times):
            async with contextlib.AsyncExitStack() as stack:
                keepers = [await stack.enter_async_context(stopped(Keeping(Path(home, str(turn))))) for _ in range(4)]
                for keeper in keepers:
                    await keeper.start(rounds=2, ask=True)
                for keeper in keepers:
                    await keeper.until(lambda keeper=keeper: bool(keeper.said))
                one, *others = sorted(keepers, key=lambda keeper: not keeper.said)
                if any(keeper.said or keeper.code != 1 or b"already uses" not in keeper.errors for keeper in others):
                    total.is_wrong(f"not one only: {[(keeper.code, keeper.errors[-200:]) for keeper in keepers]}")
                for number in range(2):
                    await one.round(number)
                await one.ended()
                total += await judge(one.folder, one.promise())
    return Outcome(round_.times, total.lost, total.again, total.wrong, note="; ".join(total.seen))


@contextlib.contextmanager
def control_group(controller: str, **limits: int) -> Iterator[Path]:
    """A control group of its own. NotHere where that is not allowed."""
    folder = CGROUPS / controller / f"gateway-faults-{os.getpid()}"
    try:
        folder.mkdir()
        for name, value in limits.items():
            (folder / name.replace("__", ".")).write_text(str(value))
    except OSError as error:
        raise NotHere(f"no control group of version 1 for {controller}: {error}") from error
    try:
        yield folder
    finally:
        folder.rmdir()


@fault(
    "P14",
    "The kernel kills the agent because there is no memory left",
    "As P01: nothing that was on disk is lost, and the next run goes on.",
    times=20,
)
async def out_of_memory(round_: Round) -> Outcome:
    total, killed_by_kernel = Verdict(), 0
    with control_group("memory", memory__limit_in_bytes=64 * 2**20) as group, memory() as home:
        tasks = group / "cgroup.procs"
        for turn in range(round_.times):
            async with stopped(Keeping(Path(home, str(turn)))) as keeper:
                await keeper.start(
                    before=lambda: tasks.write_text(str(os.getpid())),
                    rounds=100_000,
                    hoard=round_.chance.randint(100, 1500),
                )
                await keeper.ended()
                killed_by_kernel += keeper.code == -signal.SIGKILL
                total += await judge(keeper.folder, keeper.promise())
    if killed_by_kernel < round_.times:
        total.is_wrong(f"killed {killed_by_kernel} times only")
    return Outcome(round_.times, total.lost, total.again, total.wrong, note="; ".join(total.seen))


@fault(
    "P15",
    "The agent gets 5 % of a processor",
    "Polls are late and no more: nothing is wrong or lost, and everything is as before when it has its processor back.",
    times=3,
    alone=True,
)
async def starved(round_: Round) -> Outcome:
    slowest = 0.0
    with control_group("cpu", cpu__cfs_period_us=100_000, cpu__cfs_quota_us=5_000) as group:
        async with stage(round_.folder, every="200ms") as s:
            await s.start()
            for _ in range(round_.times):
                for task in Path(f"/proc/{s.agent.pid}/task").iterdir():
                    (group / "tasks").write_text(task.name)
                await s.polled(10)
                for task in Path(f"/proc/{s.agent.pid}/task").iterdir():
                    (group.parent / "tasks").write_text(task.name)
                slowest = max(slowest, await s.lively())
            await s.stop()
            outcome = await s.outcome(round_.times, recovered=slowest)
            blamed = s.ledger.raised("device-silent")
            return replace(outcome, wrong=outcome.wrong + blamed, note=outcome.note or f"devices blamed {blamed} times")


@fault(
    "P16",
    "The store ages: 5 million readings wait (in the short form 200,000), then the agent starts and drains them",
    "Memory stays as with an empty store; every reading comes out once, in order, live ones first.",
    times=5_000_000,
    quick=200_000,
)
async def aged(round_: Round) -> Outcome:
    with memory() as home:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, AGED, Path(home, "store"), str(round_.times)],
            capture_output=True,
            text=True,
            check=False,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        )
    assert done.returncode == 0, done.stderr
    said = dict(line.split("=") for line in done.stdout.splitlines())
    numbers = {name: float(value) for name, value in said.items()}
    lost, wrong = int(round_.times - numbers["readings"]), int(numbers["disorder"])
    wrong += numbers["memory"] > 1.15 * numbers["memory_empty"]
    note = (
        f"{numbers['memory_empty']:.0f} MiB with an empty store, {numbers['memory']:.0f} at most while it drained; "
        f"{numbers['rate']:,.0f} readings/s; the loop waited {1000 * numbers['waited']:.0f} ms at most"
    )
    return Outcome(1, lost, 0, wrong, note=note)
