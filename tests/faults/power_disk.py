"""P06 to P09: the disk is full, has no room for a new file, does not take writes, fails to sync."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from catalogue import Outcome, Round, fault
from keeping import KEEPER, Keeping, stopped
from mounting import look_for_tools, tool
from power_cuts import memory
from promise import Promise, Verdict, judge, weight
from recording import rebuild, traced

ROUNDS = 12
WRITES = 140
"""Writes of a keeper of so many rounds; those of a start are among the first."""


Said = list[dict[str, Any]]


async def injected(folder: Path, inject: Sequence[str], **settings: Any) -> tuple[int, Promise, Said, str]:
    """Run a keeper whose calls fail: exit code, its promise, what it said, its errors."""
    calls = ",".join({one.partition(":")[0] for one in inject})
    options = ["-o", "/dev/null", "-e", f"trace={calls}", *(part for one in inject for part in ("-e", f"inject={one}"))]
    arguments = [str(folder), json.dumps({"rounds": ROUNDS, **settings})]
    done = await asyncio.to_thread(traced, KEEPER, *arguments, options=options)
    said = [json.loads(line) for line in done.stdout.splitlines()]
    promise = Promise()
    for line in said:
        promise.hear(line)
    return done.returncode, promise, said, done.stderr.decode(errors="replace")


async def failing(folder: Path, inject: Sequence[str], passes: bool, **settings: Any) -> Verdict:
    """Let calls fail, once or for good: live data goes on, the trouble is told, and it ends as it should.

    `passes`: the trouble is over before the end, so everything must be on disk then.
    """
    code, promise, said, errors = await injected(folder, inject, **settings)
    verdict = Verdict()
    if "Traceback" in errors:
        verdict.is_wrong(f"{inject}: {errors.strip().splitlines()[-1]}")
    elif not promise.epochs:
        if code != 1 or "cannot be" not in errors:
            verdict.is_wrong(f"{inject}: no word why it does not start: {code} {errors}")
        return verdict
    else:
        _ended_well(verdict, inject, code, said, errors, passes)
    return verdict + await judge(folder, promise, **settings)


def _ended_well(verdict: Verdict, inject: Sequence[str], code: int, said: Said, errors: str, passes: bool) -> None:
    stats = next((line["stats"] for line in said if "stats" in line), {})
    epoch = next(line["epoch"] for line in said if "epoch" in line)
    fed = sum(weight((epoch, "t", seq)) for seq in range(1, 2 * ROUNDS + 1))
    if stats.get("appended") != fed or stats["dropped"]:
        verdict.is_wrong(f"{inject}: live data did not go on: {stats}")
    told = [(line["code"], line["state"]) for line in said if line.get("code") == "store-unwritable"]
    closed = code == 0 and said[-1].get("closed")
    explained = code == 1 and "could not be written to the store when the agent stopped" in errors
    if not closed and (passes or not explained):
        verdict.is_wrong(f"{inject}: it ended with {code}: {errors.strip()}")
    if stats.get("trouble") and not told:
        verdict.is_wrong(f"{inject}: nothing was told of {stats['trouble']}")


async def many(round_: Round, choose: Any, errors: Sequence[str]) -> Outcome:
    """Inject one error after the other, at steps that `choose` picks: ([inject], passes)."""
    total = Verdict()
    with memory() as home:
        for turn in range(round_.times):
            inject, passes = choose(round_, errors[turn % len(errors)])
            total += await failing(Path(home, str(turn)), inject, passes)
    return Outcome(round_.times, total.lost, total.again, total.wrong, note="; ".join(total.seen))


def some_writes(round_: Round, error: str) -> tuple[list[str], bool]:
    """Some writes in a row fail, from the first one on, or all from then on."""
    first = round_.chance.randint(1, WRITES)
    until = round_.chance.choice((f"{first}..{first + round_.chance.randint(0, 30)}", f"{first}+"))
    return [f"pwrite64:error={error}:when={until}"], False


def every_change(round_: Round, error: str) -> tuple[list[str], bool]:
    first = round_.chance.randint(1, WRITES)
    return [f"pwrite64,ftruncate,fdatasync:error={error}:when={first}..{first + round_.chance.randint(0, 40)}"], False


@fault(
    "P06",
    "The disk is full, or fails: writes give ENOSPC or EIO, some or from then on all",
    "Live data goes on from memory and the trouble is told; what cannot be written at the end is said.",
    times=150,
    quick=6,
)
async def full(round_: Round) -> Outcome:
    return await many(round_, some_writes, ["ENOSPC", "EIO"])


@fault(
    "P08",
    "The disk is mounted read-only while the agent runs: every change fails with EROFS",
    "As P06; it tries again every few seconds.",
    times=100,
    quick=6,
)
async def read_only(round_: Round) -> Outcome:
    return await many(round_, every_change, ["EROFS"])


def one_sync(round_: Round, error: str) -> tuple[list[str], bool]:
    return [f"fdatasync:error={error}:when={round_.chance.randint(9, 40)}"], True


@fault(
    "P09",
    "A sync fails once with EIO",
    "The file is not trusted any more: it is opened and looked through again; nothing is lost, nothing moved aside.",
    times=80,
    quick=6,
)
async def sync_failed(round_: Round) -> Outcome:
    return await many(round_, one_sync, ["EIO"])


# ---- on a real disk


@contextlib.asynccontextmanager
async def small_disk(options: str) -> AsyncIterator[Path]:
    """A disk in memory with little room."""
    look_for_tools("mount", "umount")
    with memory() as name:
        home = Path(name)
        tool("mount", "-t", "tmpfs", "-o", options, "none", home)
        try:
            yield home
        finally:
            tool("umount", "-l", home)


@fault(
    "P06-disk",
    "Somebody else fills the disk, and makes room again",
    "As P06; when there is room again everything is written, and nothing was lost.",
    times=30,
    quick=2,
)
async def filled_by_others(round_: Round) -> Outcome:
    total, noticed = Verdict(), 0
    async with small_disk("size=2m") as home:
        for turn in range(round_.times):
            folder = home / str(turn)
            begins, ends = sorted(round_.chance.sample(range(1, 15), 2))
            async with stopped(Keeping(folder)) as keeper:
                await keeper.start(rounds=20, ask=True)
                for number in range(20):
                    await keeper.until(lambda number=number: any(said.get("round") == number for said in keeper.said))
                    if number == begins:
                        _fill(home / "ballast")
                    elif number == ends:
                        (home / "ballast").unlink()
                    await keeper.round(number)
                await keeper.ended()
                noticed += ("store-unwritable", "raised") in keeper.told()
                total += await _all_there(keeper, folder)
            for path in folder.iterdir():
                path.unlink()
    return Outcome(
        round_.times, total.lost, total.again, total.wrong, note="; ".join(total.seen) or f"noticed {noticed} times"
    )


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1024))


async def _all_there(keeper: Keeping, folder: Path) -> Verdict:
    """It must have ended cleanly."""
    verdict = await judge(folder, keeper.promise())
    if keeper.code != 0:
        verdict.is_wrong(f"it ended with {keeper.code}: {keeper.errors.decode(errors='replace').strip()[-300:]}")
    return verdict


def epoch_of(said: dict[str, Any]) -> str:
    """The epoch of a batch that was given."""
    return said["given"][0] if "given" in said else ""


@fault(
    "P08-disk",
    "The disk is mounted read-only when the agent starts, and later writable again",
    "It starts all the same, and live data goes on from memory; then everything is written.",
    times=20,
    quick=2,
)
async def starts_read_only(round_: Round) -> Outcome:
    total = Verdict()
    async with small_disk("size=4m") as home, stopped(Keeping(home / "store")) as keeper:
        for _ in range(round_.times):
            await keeper.start(rounds=4, close=round_.chance.random() < 0.5)
            await keeper.ended()
            tool("mount", "-o", "remount,ro", home)
            keeper.said = [said for said in keeper.said if "round" not in said]
            again = round_.chance.randint(1, 8)
            await keeper.start(rounds=10, ask=True)
            for number in range(10):
                await keeper.until(lambda number=number: any(said.get("round") == number for said in keeper.said))
                if number == again:
                    tool("mount", "-o", "remount,rw", home)
                    if not any(epoch_of(said) == keeper.promise().epochs[-1] for said in keeper.said):
                        total.is_wrong("live data waited for the disk")
                await keeper.round(number)
            await keeper.ended()
            total += await _all_there(keeper, home / "store")
            rebuild(keeper.folder, {})
            keeper.said.clear()
    return Outcome(round_.times, total.lost, total.again, total.wrong, note="; ".join(total.seen))


@fault(
    "P07",
    "The process may open only so many files",
    "It starts, or says why not; nothing is lost.",
    times=24,
    quick=4,
)
async def few_files(round_: Round) -> Outcome:
    total = Verdict()
    with memory() as home:
        for turn in range(round_.times):
            most = 7 + turn % 12

            def limit(most: int = most) -> None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

            folder = Path(home, str(turn))
            async with stopped(Keeping(folder)) as keeper:
                await keeper.start(rounds=3)
                await keeper.ended()
                await keeper.start(before=limit, rounds=3)
                await keeper.ended()
                errors = keeper.errors.decode(errors="replace")
                if keeper.code and "Traceback" in errors and "gateway/store" in errors:
                    total.is_wrong(f"{most} files: {errors.strip().splitlines()[-1]}")
            total += await judge(folder, keeper.promise())
    return Outcome(round_.times, total.lost, total.again, total.wrong, note="; ".join(total.seen))


@fault(
    "P07-disk",
    "The disk has no room for one more file, and later it has",
    "As P07; when there is room the store is made.",
    times=12,
    quick=2,
)
async def few_inodes(round_: Round) -> Outcome:
    total = Verdict()
    for turn in range(round_.times):
        async with small_disk(f"size=4m,nr_inodes={2 + turn % 6}") as home, stopped(Keeping(home / "store")) as keeper:
            await keeper.start(rounds=6)
            await keeper.ended()
            if keeper.code not in (0, 1) or b"Traceback" in keeper.errors:
                total.is_wrong(f"{2 + turn % 6} files: {keeper.code} {keeper.errors.decode()[-300:]}")
            tool("mount", "-o", "remount,nr_inodes=100", home)
            await keeper.start(rounds=6)
            await keeper.ended()
            total += await _all_there(keeper, home / "store")
    return Outcome(round_.times, total.lost, total.again, total.wrong, note="; ".join(total.seen))
