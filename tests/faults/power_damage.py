"""P10 to P12: a disk that lies, a damaged file, a file of a later version."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from catalogue import Outcome, Round, fault
from power_cuts import SITES, heard, memory, recorded
from promise import Key, Promise, Verdict, judge, weight
from recording import LOST, THERE, TORN, Folder, rebuild
from standing import DATABASE, LOG, Files, untouched

Spoiled = tuple[Files, Promise, set[Key]]
"""What is left of a store, what it has promised, and the batches that must be there whatever has happened."""


def at_random(round_: Round, name: str, lies: bool = False) -> tuple[Files, Promise]:
    """The files of a store killed at a random step. `lies`: the disk dropped every sync from some step on, then all
    that was not synced.
    """
    recording, chance = recorded(name), round_.chance
    folder, promise = Folder({}), Promise()
    last = chance.randrange(len(recording.steps) // 4, len(recording.steps))
    lied = chance.randrange(last) if lies else last
    for i, step in enumerate(recording.steps[: last + 1]):
        if step.kind != "sync" or i < lied:
            folder.do(step)
        for said in heard(step):
            promise.hear(said)
    return folder.after(chance.choice((LOST, TORN)) if lies else THERE, chance), promise


async def spoiled(round_: Round, spoil: Callable[[Round], Spoiled]) -> Outcome:
    """Open as many spoiled stores: they must serve, give nothing wrong, and all that was not spoiled. The rest of what
    is missing is the damage.
    """
    total, gone, shares, slowest = Verdict(), 0, [], 0.0
    with memory() as home:
        folder = Path(home, "store")
        for turn in range(round_.times):
            files, promise, sound = spoil(round_)
            rebuild(folder, files)
            began = time.monotonic()
            verdict = await judge(folder, promise, damaged=True)
            slowest = max(slowest, time.monotonic() - began)
            owed = promise.owed(strict=False)
            gone += bool(verdict.missing)
            shares.append(100 * len(verdict.missing) / (len(owed) or 1))
            kept_for_later = (folder / f"{DATABASE}.newer-1").exists()  # its number was hit
            beyond = set() if kept_for_later else verdict.missing & sound
            verdict.lost = sum(map(weight, beyond))
            verdict.seen = [f"{turn}: {seen}" for seen in verdict.seen if "missing" not in seen]
            if beyond:
                verdict.seen.append(f"{turn}: {len(beyond)} batches are lost that stood on sound pages")
            if beyond or verdict.wrong:
                rebuild(round_.folder / f"{turn}", files)
            total += verdict
    note = (
        f"{gone} stores lost batches, {sum(shares) / len(shares):.1f} % of them on average, {max(shares):.0f} % at "
        f"worst; served again after {slowest:.1f} s at most"
    )
    if total.unsound:
        note += f"; damage that nobody has met yet is left in {total.unsound}"
    note = "; ".join(total.seen) if total.wrong or total.lost else note
    return Outcome(round_.times, total.lost, total.again, total.wrong, note=note)


@fault(
    "P10",
    "The disk says that it has synced, and has not; then the power is cut",
    "A documented limit: readings are lost. It serves on, nothing is wrong, and the gap shows in the numbers.",
    times=2000,
    quick=150,
)
async def lying(round_: Round) -> Outcome:
    return await spoiled(
        round_, lambda round_: (*at_random(round_, round_.chance.choice(list(SITES)), lies=True), set())
    )


def zeroed(content: bytearray, chance: random.Random) -> None:
    """A page, or some sectors, or all of it, read as zeros."""
    first = chance.randrange(len(content)) // 512 * 512
    last = min(len(content), first + chance.choice((512, 1024, 4096, 2**30)))
    content[first:last] = bytes(last - first)


def noise(content: bytearray, chance: random.Random) -> None:
    first = chance.randrange(len(content)) // 512 * 512
    last = min(len(content), first + chance.choice((512, 1024, 4096)))
    content[first:last] = chance.randbytes(last - first)


def flipped(content: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 8, 64))):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def moved(content: bytearray, chance: random.Random) -> None:
    """One page stands in another's place, as a broken flash translation does it: its CRCs are right."""
    pages = len(content) // 1024
    source, target = chance.randrange(pages) * 1024, chance.randrange(pages) * 1024
    content[target : target + 1024] = content[source : source + 1024]


def cut_short(content: bytearray, chance: random.Random) -> None:
    del content[chance.randrange(len(content)) :]


HOW: Sequence[Callable[[bytearray, random.Random], None]] = (zeroed, noise, flipped, moved, cut_short)


def damaged(round_: Round) -> Spoiled:
    chance = round_.chance
    before, promise = at_random(round_, chance.choice(list(SITES)))
    files = dict(before)
    there = [name for name in (DATABASE, DATABASE, LOG) if len(files.get(name, b"")) >= 1024]
    if there:
        name = chance.choice(there)
        content = bytearray(files[name])
        chance.choice(HOW)(content, chance)
        files[name] = bytes(content)
        if chance.random() < 0.3:  # an older database without its log, or the log of another one
            files.pop(LOG, None)
    return files, promise, untouched(before, files)


@fault(
    "P11",
    "Pages of the database or of its log are zeroed, overwritten, swapped or cut off, bits flip",
    "What can be read is brought over into a fresh store, which serves within seconds; no wrong value. Lost are the "
    "batches of which a page was hit, and the last commits in the log if they look like writes torn by a power cut.",
    times=4000,
    quick=300,
)
async def damage(round_: Round) -> Outcome:
    return await spoiled(round_, damaged)


@fault(
    "P12",
    "The database was written by a later version of the agent",
    "It is moved aside as it is, a fresh one is made, an alarm is raised.",
    times=50,
    quick=10,
)
async def later_version(round_: Round) -> Outcome:
    total = Verdict()
    with memory() as home:
        folder = Path(home, "store")
        for _ in range(round_.times):
            files, promise = at_random(round_, "bounded")
            rebuild(folder, files)
            held = _made_newer(folder, round_.chance.randint(100, 2**31 - 1))
            total += await _untouched(folder, held, promise)
    return Outcome(round_.times, total.lost, total.again, total.wrong, note="; ".join(total.seen))


def _made_newer(folder: Path, version: int) -> Any:
    with closing(sqlite3.connect(folder / DATABASE)) as db:
        db.execute(f"PRAGMA user_version={version}")
        db.commit()
        return db.execute("SELECT name FROM sqlite_master").fetchall(), _rows(db)


def _rows(db: sqlite3.Connection) -> Any:
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
    return db.execute("SELECT * FROM batch ORDER BY id").fetchall() if "batch" in tables else []


async def _untouched(folder: Path, held: Any, promise: Promise) -> Verdict:
    """Everything must be in the file that was moved aside."""
    fresh = Promise(epochs=promise.epochs)
    verdict = await judge(folder, fresh)
    aside = folder / f"{DATABASE}.newer-1"
    if not aside.exists():
        verdict.is_wrong("it was not moved aside")
        return verdict
    with closing(sqlite3.connect(aside)) as db:
        if (db.execute("SELECT name FROM sqlite_master").fetchall(), _rows(db)) != held:
            verdict.is_wrong("the later version's file was changed")
    return verdict
