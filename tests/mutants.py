"""Breaks the bus and the store on purpose, one rule at a time, and says whether the tests notice: `make mutants`.

A rule that can be taken away without a test turning red is not tested. The tree is copied to a temporary directory,
first tried as it is, then with one mutant at a time; the tree itself is never touched. Exit code 1 when one survives.

    python tests/mutants.py              all of them
    python tests/mutants.py echo late    those whose name contains a word

To add one: append a Mutant to MUTANTS. `old` must stand in `file` exactly once; `new` takes one rule away and leaves
the rest running; `tests` are arguments of pytest, as few and as quick as will turn red. Run it by its name.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")
LONGEST = 120.0
"""Seconds of one run: a mutant that makes the tests hang is noticed too."""
PASSED, FAILED = 0, 1
"""Exit codes of pytest; the others mean that it could not run."""

NOTICED = "noticed"

LINK, SERIAL, TALKS = "gateway/field/link.py", "gateway/field/serial_link.py", "gateway/field/talks.py"
POLLER, SCHEDULE = "gateway/field/poller.py", "gateway/field/schedule.py"
ADU, DRIVER, LATE = "drivers/modbus/adu.py", "drivers/modbus/driver.py", "drivers/modbus/late.py"
TIME = "tests/field/test_link_time.py"
WRONG = "tests/field/faults/test_wrong_values.py"
CUTS = "tests/faults/test_quick.py -k P02"
PUMP, BOOK, STORE = "gateway/uplink/pump.py", "gateway/store/book.py", "gateway/store/store.py"


class Mutant(NamedTuple):
    name: str
    file: str
    old: str
    new: str
    tests: str


MUTANTS = (
    Mutant("a commit is synced", "gateway/store/opening.py", "synchronous=FULL", "synchronous=OFF", CUTS),
    Mutant("a commit is synced by itself", "gateway/store/opening.py", "synchronous=FULL", "synchronous=NORMAL", CUTS),
    Mutant(
        "a damaged page leads nowhere in circles",
        "gateway/store/salvage.py",
        "                if row.id < first:",
        "                if not row:",
        "tests/store/test_store_damage.py -k circles",
    ),
    Mutant(
        "nothing is freed before its PUBACK",
        PUMP,
        "        self._flying[future] = item\n",
        "        self._flying[future] = item\n        item.landed(SUCCESS)\n",
        "tests/uplink/test_faults.py -k 'withheld or cut_before'",
    ),
    Mutant(
        "what nobody heard is not freed",
        PUMP,
        "        if code == SUCCESS:\n            self._worked(batch)",
        "        if code < FAILURES:\n            self._worked(batch)",
        "tests/uplink/test_publisher.py -k nobody_listens",
    ),
    Mutant(
        "an acknowledgement frees only what was given",
        BOOK,
        "for span in self.outlet.given.overlap(first, last))",
        "for span in [(first, last)])",
        "tests/store/test_store_out.py -k was_not_given",
    ),
    Mutant(
        "what is given again is marked",
        BOOK,
        "return replace(closed.batch, historical=True) if closed.again else closed.batch",
        "return closed.batch",
        "tests/store/test_store_out.py",
    ),
    Mutant(
        "a batch has one clock",
        STORE,
        "if self._open is not None and self._open.clk != clock.state:",
        "if False:",
        "tests/store/test_store_life.py -k clock",
    ),
    Mutant(
        "a row that came back wrong is noticed",
        "gateway/store/rows.py",
        " and row.crc == _crc(row)",
        "",
        "tests/store/test_store_damage.py",
    ),
    Mutant(
        "backlog leaves room for live data",
        PUMP,
        "self._share.admits(self._backlog)",
        "True",
        "tests/uplink/test_faults.py -k leaves_room",
    ),
    Mutant(
        "rows are looked for where nothing leads to",
        "gateway/store/salvage.py",
        "chain(_by_tree(path), pages.rows(path, reached))",
        "chain(_by_tree(path))",
        "tests/store/test_store_damage.py -k stood_on_it",
    ),
    Mutant(
        "a torn log is no damaged one",
        "gateway/store/frames.py",
        "found.damaged = commits > has_head",
        "found.damaged = commits > 0",
        "tests/store/test_pages.py -k torn",
    ),
    Mutant(
        "an unfinished transaction hides nothing",
        "gateway/store/pages.py",
        "for further in (logged.behind, logged.unfinished):",
        "for further in (logged.behind | logged.unfinished,):",
        "tests/store/test_pages.py -k unfinished",
    ),
    Mutant(
        "state behind damage of the log is the newest",
        "gateway/store/salvage.py",
        "rows = chain(behind, ",
        "rows = chain([], ",
        "tests/store/test_store_log.py",
    ),
    Mutant(
        "a damaged row id hides nobody",
        "gateway/store/tables.py",
        "    if lowest != highest:",
        "    if False:",
        "tests/store/test_store_damage.py -k 'hide_its or other_columns'",
    ),
    Mutant(
        "a closed topic is a dead letter",
        PUMP,
        "                self._dead_letter(batch, _CLOSED)",
        "                pass",
        "tests/uplink/test_refusals.py -k closed",
    ),
    Mutant(
        "times from before the clock was set are mended",
        "gateway/store/rows.py",
        "return replace(batch, t0=batch.m0 + anchors[batch.boot], clk=CORRECTED)",
        "return batch",
        "tests/store/test_store_life.py",
    ),
    Mutant(
        "nothing is told that has not happened",
        "gateway/uplink/notices.py",
        "bool(self._spans) and now >= self._due",
        "now >= self._due",
        "tests/uplink/test_notices.py",
    ),
    Mutant("quiet gap after a time-out", LINK, "QUIET_GAP = 0.3", "QUIET_GAP = 0.0", TIME),
    Mutant(
        "drain before a request",
        SERIAL,
        "        self._read()  # what the loop",
        "        # what the loop",
        "tests/field/test_link.py -k nobody_has_read_yet",
    ),
    Mutant("frames of others are no ruins of ours", LINK, " - self._foreign", "", TIME),
    Mutant("a line that babbles is not read on", LINK, "KEEP = 4096", "KEEP = 1 << 20", f"{TIME} -k babbling"),
    Mutant("a reply in pieces is waited for", LINK, "FRAGMENT = 0.050", "FRAGMENT = 0.0", TIME),
    Mutant("a broken frame ends early", LINK, "            if more >= 0:", "            if more > KEEP:", TIME),
    Mutant("the echo is cut off", LINK, "at = buffer.find(request)", "at = -1", f"{TIME} tests/field/faults -k echo"),
    Mutant(
        "only a line that echoes has a mirrored reply cut",
        LINK,
        " or (step.mirrored and not self.echoes)",
        "",
        f"{TIME} -k mirror",
    ),
    Mutant("t3.5", "gateway/field/cost.py", "3.5 * port.bits", "1.5 * port.bits", TIME),
    Mutant("1.75 ms above 19200 baud", "gateway/field/cost.py", "0.00175 if", "0.0 if", TIME),
    Mutant(
        "length match",
        ADU,
        "head = bytes((unit,)) + reply.head",
        "head = bytes((unit,)) + reply.head[:1]",
        "tests/drivers/test_modbus_adu.py",
    ),
    Mutant(
        "unit match",
        ADU,
        "        if head.startswith(data[at : at + len(head)]):",
        "        if head[1:].startswith(data[at + 1 : at + len(head)]):",
        f"{WRONG} -k wrong-unit",
    ),
    Mutant(
        "function match",
        ADU,
        "        if head.startswith(data[at : at + len(head)]):",
        "        if (head[:1] + data[at + 1 : at + 2] + head[2:]).startswith(data[at : at + len(head)]):",
        f"{WRONG} -k wrong-function",
    ),
    Mutant("CRC check", ADU, "            if not crc16(buffer[:total]):", "            if total:", f"{WRONG} -k crc"),
    Mutant(
        "CRC check behind noise",
        ADU,
        "        if size and not crc16(data[at : at + size]):",
        "        if size:",
        f"{WRONG} -k crc",
    ),
    Mutant(
        "TCP transaction match", ADU, "    ours = request[:4]", "    ours = b''", "tests/drivers/test_modbus_adu.py"
    ),
    Mutant(
        "late guard",
        LATE,
        "self._guarded(ask) if self._owed else self._send(ask)",
        "self._send(ask)",
        f"{WRONG} -k late",
    ),
    Mutant(
        "a device of one length says it twice",
        LATE,
        "                return (yield from self._repeated(ask))",
        "                return (yield from self._send(ask))",
        "tests/drivers/test_modbus_late.py -k twice",
    ),
    Mutant(
        "a late refusal is not the answer",
        LATE,
        "while doubts < len(self._owed) and reply[0] & REFUSED:",
        "while doubts < 0:",
        "tests/drivers/test_modbus_late.py -k refusal",
    ),
    Mutant(
        "what reading clears is not asked twice",
        LATE,
        "            if ask.clears:\n                raise\n        return",
        "            pass\n        return",
        "tests/drivers/test_modbus_late.py -k clears",
    ),
    Mutant(
        "a refused block is read in parts",
        DRIVER,
        "if len(ask.points) > 1 and not ask.clears:",
        "if not ask.points:",
        "tests/drivers/test_modbus_trouble.py",
    ),
    Mutant(
        "holes are learned",
        DRIVER,
        "        if self._holes.learn(hole, self._fetch.now):",
        "        if not hole:",
        "tests/drivers/test_modbus_trouble.py",
    ),
    Mutant(
        "holes are known to the next run",
        "gateway/field/unit.py",
        '{"holes": known["holes"]} if known.get("holes") else {}',
        "{}",
        "tests/field/test_poller.py -k remembered",
    ),
    Mutant(
        "missed slots are counted",
        SCHEDULE,
        "missed += late * len(slot.points)",
        "missed += 0",
        "tests/field/test_schedule.py",
    ),
    Mutant(
        "fair shares of time",
        SCHEDULE,
        "next(slot for slot in ready if slot.used <= self._level + SLICE)",
        "ready[0]",
        "tests/field/test_schedule.py",
    ),
    Mutant(
        "asap points are served on a full bus",
        SCHEDULE,
        "SHARE_AFTER = 1.0",
        "SHARE_AFTER = 1e9",
        "tests/field/test_schedule.py",
    ),
    Mutant(
        "share of the dead",
        POLLER,
        "PROBE_SHARE = 0.03",
        "PROBE_SHARE = 1.0",
        "tests/field/test_poller.py -k 'dead or never'",
    ),
    Mutant(
        "a dead device gets one question",
        POLLER,
        "first, rest = groups[0][:1], [groups[0][1:], *groups[1:]]",
        "first, rest = groups[0], groups[1:]",
        "tests/field/faults/test_probes.py",
    ),
    Mutant(
        "a probe is short",
        POLLER,
        "timeout = self.bus.timeout if patient else unit.record.probe_timeout(self._usual_timeout(alive))",
        "timeout = self.bus.timeout",
        "tests/field/faults/test_probes.py",
    ),
    Mutant(
        "a silent device is not asked for the rest",
        POLLER,
        "elif isinstance(error, NoReply) or unit.health.failures:",
        "elif unit.health.dead:",
        "tests/field/test_poller.py",
    ),
    Mutant(
        "a conversation holds the bus",
        TALKS,
        "if self._waiting and others and not held:",
        "if self._waiting and others:",
        "tests/field/test_talks.py",
    ),
    Mutant(
        "commands between two frames",
        TALKS,
        "if self._waiting and others and not held:",
        "if False:",
        "tests/field/test_talks.py",
    ),
    Mutant(
        "the line gets its own settings back",
        TALKS,
        "            if line_changed:",
        "            if False:",
        "tests/field/test_talks.py",
    ),
)


def passes(tree: Path, tests: str) -> bool | None:
    """Whether these tests pass in the tree; None when pytest could not run them."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *shlex.split(tests)]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}  # what was compiled before may look as fresh
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        code = subprocess.run(command, cwd=tree, env=environment, timeout=LONGEST, check=False, **quiet).returncode
    except subprocess.TimeoutExpired:
        return False
    return {PASSED: True, FAILED: False}.get(code)


def judge(tree: Path, mutant: Mutant) -> str:
    """Run the tests on one mutant, and undo it."""
    file = tree / mutant.file
    text = file.read_text()
    if text.count(mutant.old) != 1:
        return f"OUTDATED   {text.count(mutant.old)} times in {mutant.file}: {mutant.old.strip()}"
    file.write_text(text.replace(mutant.old, mutant.new))
    try:
        passed = passes(tree, mutant.tests)
    finally:
        file.write_text(text)
    if passed is None:
        return f"BROKEN     pytest cannot run {mutant.tests}"
    return f"SURVIVED   {mutant.tests}" if passed else NOTICED


def main(words: list[str]) -> int:
    chosen = [mutant for mutant in MUTANTS if not words or any(word in mutant.name for word in words)]
    unharmed = list(dict.fromkeys(mutant.tests for mutant in chosen))
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    noticed = 0
    with tempfile.TemporaryDirectory(prefix="gateway-mutants-") as folder, Progress(*columns) as bar:
        tree = shutil.copytree(ROOT, Path(folder) / "tree", ignore=LEFT_OUT)
        task = bar.add_task("the tree as it is", total=len(unharmed) + len(chosen))
        for tests in unharmed:
            if not passes(tree, tests):
                bar.console.print(
                    f"RED        without any mutant: {tests}", highlight=False, markup=False, soft_wrap=True
                )
                return 1
            bar.advance(task)
        for mutant in chosen:
            bar.update(task, description=mutant.name)
            verdict = judge(tree, mutant)
            noticed += verdict == NOTICED
            bar.console.print(f"{mutant.name:<48} {verdict}", highlight=False, markup=False, soft_wrap=True)
            bar.advance(task)
        bar.update(task, description=f"{noticed} of {len(chosen)} noticed")
    return 0 if noticed == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
