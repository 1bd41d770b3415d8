"""P05: the power is cut while the agent takes up a site file that was changed."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from catalogue import EVERY, Outcome, Round, fault
from power_cuts import memory
from processes import write_site
from promise import Key, drain, salvaged
from recording import LOST, ROOT, THERE, TORN, Folder, Step, files_of, rebuild, record
from stage import Stage, stage

from gateway.clock import Clock
from gateway.model import Batch, StoreSettings
from gateway.store import Store
from gateway.store.rows import Row, to_batch

BRIEFLY = ROOT / "tests" / "faults" / "briefly.py"
RUNS_FOR = 4.0
"""Seconds of the run that is recorded; half of them it needs to start."""
BOOTS = 3
"""So many of the ruins the whole agent starts on, and delivers what they hold."""


@dataclass
class Held:
    """What a store holds: batches with their bytes, and births."""

    batches: dict[Key, bytes]
    births: set[tuple[str, str]]

    def lacks(self, other: Held) -> list[str]:
        """What the other has, and this one not, or not as it was."""
        lost = [f"batch {key} is gone" for key in other.batches.keys() - self.batches.keys()]
        lost += [f"birth {key} is gone" for key in other.births - self.births]
        return lost + [
            f"batch {key} has changed" for key, data in self.batches.items() if other.batches.get(key, data) != data
        ]


@fault(
    "P05",
    "The power is cut after any step while the agent takes up a changed site file",
    "The agent starts, with the site file as it stands; what was read under the old one is there, with its births.",
    times=EVERY,
    quick=40,
)
async def changed_site(round_: Round) -> Outcome:
    async with stage(round_.folder, every="100ms") as s:
        await s.broker.stop()
        await s.start()
        await s.polled(20)
        await s.stop()
        owed, home = list(s.owed()), round_.folder / "store"
        before, wanted = files_of(home), held(home)
        config = changed(s, round_.folder)
        log = round_.folder / "strace.log"
        steps, said = await asyncio.to_thread(record, home, BRIEFLY, str(RUNS_FOR), str(config), log=log)
        after = held(home)
        assert wanted.births, "the first run has kept nothing"
        assert after.births - wanted.births, f"nothing was taken up: {said[-2000:]}"
        ruins = list(cuts(round_, before, steps))
        lost = []
        with memory() as name:
            for files in ruins:
                rebuild(Path(name, "store"), files)
                lost += (await opened(Path(name, "store"))).lacks(wanted)
        await s.broker.start()
        recovered = 0.0
        for files in round_.chance.sample(ruins, BOOTS):
            rebuild(home, files)
            s.ledger.arrived.clear()
            began = time.monotonic()
            await s.start()
            await s.until(lambda: not s.ledger.missing(owed), "what was read before")
            recovered = max(recovered, time.monotonic() - began)
            await s.stop()
        wrong = s.ledger.mistaken(s.field.answers)
    note = "; ".join([*lost[:5], *wrong[:5]]) or (
        f"{len(wanted.batches)} batches under {len(wanted.births)} births; {len(steps)} steps; the agent started on "
        f"{BOOTS} of the ruins"
    )
    return Outcome(len(ruins), len(lost), 0, len(wrong), recovered, note)


def changed(s: Stage, folder: Path) -> Path:
    """Another period for all devices, and one device less: their births are others."""
    bus = s.document["bus"][0]
    devices = [device | {"every": "150ms"} for device in bus["device"][:-1]]
    return write_site(folder / "gateway.json", s.document | {"bus": [bus | {"device": devices}]})


def cuts(round_: Round, files: dict[str, bytes], steps: list[Step]) -> Iterator[dict[str, bytes]]:
    """What is on the disk after a cut at each step, in each way; or at as many as wanted."""
    every = [(i, how) for i in range(len(steps)) for how in (THERE, LOST, TORN)]
    chosen = set(every if round_.times >= len(every) else round_.chance.sample(every, round_.times))
    folder = Folder(files)
    for i, step in enumerate(steps):
        folder.do(step)
        for how in (THERE, LOST, TORN):
            if (i, how) in chosen:
                yield folder.after(how, round_.chance)


def held(folder: Path) -> Held:
    """What SQLite finds in a store that nobody has open."""
    with closing(sqlite3.connect(folder / "gateway.db")) as db:
        batches = [to_batch(Row(*row)) for row in db.execute("SELECT * FROM batch")]
        births = {(device, cfg) for device, cfg in db.execute("SELECT device,cfg FROM birth")}
    return Held({batch.key: batch.data for batch in batches}, births)


async def opened(folder: Path) -> Held:
    """What the next run of the agent finds."""
    now = 5000.0
    store = Store(StoreSettings(str(folder)), Clock("system", "a" * 12, lambda: now, lambda: now + 1.7e9))
    await store.open()
    await salvaged(store)
    batches: list[Batch] = await drain(store)
    births = {(device, cfg) for device, cfg, _ in await store.births()}
    await store.close()
    return Held({batch.key: batch.data for batch in batches}, births)
