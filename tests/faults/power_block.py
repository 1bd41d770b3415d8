"""P02 to P04 once more on a real file system: ext4 on a loop device over a disk in user space whose power is cut."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catalogue import NotHere, Outcome, Round, fault
from keeping import Keeping, stopped
from mounting import look_for_tools, tool
from power_cuts import SITES, memory, version_1
from promise import Promise, Verdict, judge
from recording import LOST, ROOT, TORN, rebuild

IMAGE_BYTES = 16 * 2**20
DEADLINE = 30.0


def look_for_disk() -> None:
    look_for_tools("mkfs.ext4", "losetup", "mount", "umount")
    if not Path("/dev/fuse").exists() or not Path("/dev/loop-control").exists():
        raise NotHere("/dev/fuse or /dev/loop-control is missing")
    if importlib.util.find_spec("mfusepy") is None:
        raise NotHere("mfusepy is not installed")


@dataclass
class Rig:
    """A mounted ext4 whose disk can lose its power, and a place for what is left of it."""

    home: Path
    process: asyncio.subprocess.Process

    @property
    def mounted(self) -> Path:
        return self.home / "mounted"

    async def arm(self, writes: int, how: str, seed: int) -> None:
        """Let the power be cut after so many more writes."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"arm {writes} {how} {seed} {self.home / 'left'}\n".encode())
        await self.process.stdin.drain()

    async def cut_at(self) -> int:
        """When the power was cut, in monotonic nanoseconds."""
        assert self.process.stdout is not None
        async with asyncio.timeout(DEADLINE):
            return int((await self.process.stdout.readline()).split()[1])

    async def judged(self, store: str, promise: Promise, **settings: Any) -> Verdict:
        """Mount what is left, as after a reboot, and hold it against the promise."""
        again = self.home / "again"
        await asyncio.to_thread(tool, "mount", "-o", "loop", self.home / "left", again)
        try:
            return await judge(again / store, promise, **settings)
        finally:
            await asyncio.to_thread(tool, "umount", again)


@contextlib.asynccontextmanager
async def rig() -> AsyncIterator[Rig]:
    look_for_disk()
    with memory() as name, contextlib.ExitStack() as undo:
        home = Path(name)
        for folder in ("platter", "mounted", "again"):
            (home / folder).mkdir()
        with (home / "image").open("wb") as image:
            image.truncate(IMAGE_BYTES)
        tool("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", home / "image")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            ROOT / "tests" / "faults" / "platter.py",
            home / "image",
            home / "platter",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        disk = home / "platter" / "disk"
        try:
            async with asyncio.timeout(DEADLINE):
                while not await asyncio.to_thread(disk.exists):
                    if process.returncode is not None:
                        raise NotHere("the file system in user space does not start; is libfuse installed?")
                    await asyncio.sleep(0.02)
            undo.callback(tool, "umount", home / "platter")
            await asyncio.to_thread(tool, "mount", "-o", "loop,noatime", disk, home / "mounted")
            undo.callback(tool, "umount", home / "mounted")
            yield Rig(home, process)
        finally:
            await asyncio.to_thread(undo.close)
            await asyncio.wait_for(process.wait(), DEADLINE)


async def cut_once(disk: Rig, keeper: Keeping, round_: Round, how: str, most: int, **site: Any) -> Verdict:
    """Cut the power after some writes, `most` at most, while the store runs, ends, starts again; look at the rest."""
    await disk.arm(round_.chance.randint(1, most), how, round_.chance.randrange(2**31))
    cutting = asyncio.create_task(disk.cut_at())
    while not cutting.done():
        if not keeper.runs:
            await keeper.start(close=round_.chance.random() < 0.5, **site)
        await asyncio.wait({cutting}, timeout=0.005)
    cut = await cutting
    # Its words may still be in the pipe.
    await keeper.until(lambda: any(said.get("at", 0) >= cut for said in keeper.said[-1:]))
    settings = {key: value for key, value in site.items() if key != "rounds"}
    return await disk.judged(keeper.folder.name, keeper.promise(cut), **settings)


async def cuts(round_: Round, how: str) -> Outcome:
    """Cut at random while a store fills up to its cap, and while one gives nothing that is not on disk."""
    total = Verdict()
    async with rig() as disk:
        for name in ("full", "strict"):
            async with stopped(Keeping(disk.mounted / name)) as keeper:
                for _ in range(-(-round_.times // 2)):
                    site = {**SITES[name], "max_size": 150_000, "rounds": 60}
                    total += await cut_once(disk, keeper, round_, how, 150, **site)
    return Outcome(round_.times, total.lost, total.again, total.wrong, note="; ".join(total.seen))


_EXPECTED = "As there; ext4 with its own journal in between."


@fault("P02-disk", "As P02, on ext4: a block device loses what was not flushed", _EXPECTED, times=200)
async def unflushed_lost(round_: Round) -> Outcome:
    return await cuts(round_, LOST)


@fault("P03-disk", "As P03, on ext4: some sectors of what was not flushed are there", _EXPECTED, times=200)
async def unflushed_torn(round_: Round) -> Outcome:
    return await cuts(round_, TORN)


@fault("P04-disk", "As P04, on ext4: the power is cut within the first writes", _EXPECTED, times=100)
async def made_or_migrated(round_: Round) -> Outcome:
    total = Verdict()
    files, before = version_1()
    async with rig() as disk:
        for turn in range(round_.times):
            async with stopped(Keeping(disk.mounted / f"store-{turn}")) as keeper:
                if turn % 2:
                    rebuild(keeper.folder, files)
                    await asyncio.to_thread(os.sync)
                    keeper.said += before
                total += await cut_once(disk, keeper, round_, (LOST, TORN)[turn % 4 // 2], 60, rounds=1)
            shutil.rmtree(keeper.folder)
    return Outcome(round_.times, total.lost, total.again, total.wrong, note="; ".join(total.seen))
