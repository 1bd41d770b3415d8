"""P01 to P04: the power is cut, or the process killed, at step i, for all i. Recorded, so nobody needs to be root."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from catalogue import EVERY, Outcome, Round, fault
from keeper import truth
from keeping import KEEPER
from promise import Promise, Verdict, judge
from recording import LOST, THERE, TORN, Folder, Step, files_of, rebuild, record

from drivers.base import Sample
from gateway.model import Batch, Readings
from gateway.store.rows import row_id, to_row
from gateway.uplink.payload.native import encode_blocks

SITES: dict[str, dict[str, Any]] = {
    "bounded": {},
    "strict": {"durability": "strict"},
    "kept": {"keep_acked": 20_000},
    "full": {"max_size": 100_000, "rounds": 60},
}
"""What the recorded stores are told."""

VERSION_1 = """
CREATE TABLE batch(id INTEGER PRIMARY KEY,kept,n,t0,m0,clk,zipped,origin,crc,data);
CREATE TABLE run(n INTEGER PRIMARY KEY,token,ended,e,c,t);
CREATE TABLE state(key PRIMARY KEY,value) WITHOUT ROWID;
CREATE TABLE birth(device,cfg,body,last,PRIMARY KEY(device,cfg)) WITHOUT ROWID;
"""
"""The tables as the first version of the store made them."""


@dataclass
class Recording:
    """A run of a store: the files it found, what had been promised before, and its steps."""

    site: dict[str, Any]
    steps: list[Step]
    files: dict[str, bytes] = field(default_factory=dict)
    before: list[dict[str, Any]] = field(default_factory=list)

    def promise(self) -> Promise:
        promise = Promise()
        for said in self.before:
            promise.hear(said)
        return promise


def memory() -> tempfile.TemporaryDirectory[str]:
    """A folder in memory where there is one: a thousand rebuilt stores need no real disk."""
    shared = Path("/dev/shm")
    return tempfile.TemporaryDirectory(prefix="gateway-", dir=shared if shared.is_dir() else None)


def run(site: dict[str, Any], files: dict[str, bytes], before: Sequence[dict[str, Any]] = ()) -> Recording:
    """Record a store that starts on these files."""
    with memory() as home:
        folder = Path(home, "store")
        if files:
            rebuild(folder, files)
        steps, errors = record(folder, KEEPER, str(folder), json.dumps(site), log=Path(home, "log"))
    assert steps, errors
    return Recording(site, steps, files, list(before))


@cache
def recorded(name: str) -> Recording:
    return run(SITES[name], {})


def restarted(first: Recording, round_: Round) -> Recording:
    """Record what starts on the ruins that a cut of the first run has left."""
    folder, before = Folder(first.files), list(first.before)
    for step in first.steps[: round_.chance.randrange(len(first.steps) // 3, len(first.steps))]:
        folder.do(step)
        before += heard(step)
    return run(first.site, folder.after(TORN, round_.chance), before)


def heard(step: Step) -> list[dict[str, Any]]:
    return [json.loads(line) for line in step.data.splitlines()] if step.kind == "say" else []


async def cut(round_: Round, recordings: Iterable[Recording], hows: Sequence[str]) -> Outcome:
    """Cut each of the recorded runs after every step, or after as many as wanted, and look at what is left."""
    total, injected = Verdict(), 0
    all_cuts = [(recording, i, how) for recording in recordings for i in range(len(recording.steps)) for how in hows]
    chosen = all_cuts if round_.times >= len(all_cuts) else round_.chance.sample(all_cuts, round_.times)
    wanted: dict[int, set[tuple[int, str]]] = {}
    by_id = {id(recording): recording for recording, _, _ in all_cuts}
    for recording, i, how in chosen:
        wanted.setdefault(id(recording), set()).add((i, how))
    with memory() as home:
        for which, cuts in wanted.items():
            total += await _cut_one(round_, by_id[which], cuts, Path(home, "store"))
            injected += len(cuts)
    note = "; ".join(total.seen) or f"{len(all_cuts)} cuts are possible"
    return Outcome(injected, total.lost, total.again, total.wrong, note=note)


async def _cut_one(round_: Round, recording: Recording, cuts: set[tuple[int, str]], home: Path) -> Verdict:
    store = {name: value for name, value in recording.site.items() if name != "rounds"}
    total, folder, promise = Verdict(), Folder(recording.files), recording.promise()
    for i, step in enumerate(recording.steps):
        folder.do(step)
        for said in heard(step):
            promise.hear(said)
        for how in (THERE, LOST, TORN):
            if (i, how) in cuts:
                rebuild(home, folder.after(how, round_.chance))
                verdict = await judge(home, promise, **store)
                verdict.seen = [f"step {i}, {how}: {seen}" for seen in verdict.seen]
                total += verdict
    return total


@fault(
    "P01",
    "The process is killed (kill -9) after any step",
    "Nothing that was said to be on disk is missing; with `strict` nothing that was given out.",
    times=EVERY,
    quick=200,
)
async def killed(round_: Round) -> Outcome:
    return await cut(round_, map(recorded, SITES), [THERE])


@fault(
    "P02",
    "The power is cut after any step; what was not synced is gone",
    "As P01; the database is sound, and the epoch a fresh one.",
    times=EVERY,
    quick=200,
)
async def unsynced_lost(round_: Round) -> Outcome:
    return await cut(round_, map(recorded, SITES), [LOST])


@fault(
    "P03",
    "The power is cut after any step; what was not synced is there in part, out of order, torn at 512 bytes",
    "As P02, also for a store that starts on such ruins.",
    times=EVERY,
    quick=250,
)
async def torn(round_: Round) -> Outcome:
    recordings = list(map(recorded, SITES))
    for _ in range(1 if round_.times < EVERY else 4):
        recordings += [restarted(recordings[i], round_) for i in (0, 1)]
    return await cut(round_, recordings, [TORN])


@fault(
    "P04",
    "The power is cut while the database is made, or brought to a new version",
    "The old version or the new one, never half; what the old one held is there.",
    times=EVERY,
    quick=200,
)
async def made_or_migrated(round_: Round) -> Outcome:
    files, before = version_1()
    recordings = [run({"rounds": 1}, {}), run({"rounds": 1}, files, before)]
    return await cut(round_, recordings, [THERE, LOST, TORN])


def version_1() -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """A store as the first version left it, and what it had promised."""
    epoch, newest = "1-0123456789abcdef", 30
    with memory() as home:
        with closing(sqlite3.connect(Path(home, "gateway.db"), isolation_level=None)) as db:
            db.executescript("PRAGMA page_size=1024;PRAGMA journal_mode=WAL;" + VERSION_1 + "PRAGMA user_version=1;")
            db.execute("INSERT INTO run VALUES(1,?,'clean',0,0,?)", (epoch.partition("-")[2], newest))
            for seq in range(1, newest + 1):
                samples = [Sample(f"p{i}", value) for i, value in enumerate(truth(epoch, seq))]
                zipped, data = encode_blocks([Readings("m", "c", 0, samples)], 0)
                batch = Batch(epoch, "t", seq, "b" * 12, 10**12, 0, "synced", len(samples), zipped, data)
                db.execute("INSERT INTO batch VALUES(?,?,?,?,?,?,?,?,?,?)", to_row(row_id("t", 1, seq), batch, False))
        Path(home, "gateway.lock").write_bytes(b"pid 1\nstarts 1\n".ljust(64))
        return files_of(Path(home)), [{"epoch": epoch}, {"committed": {"t": newest}}]
