"""The runner of the faults: what it makes of a loss, of a fault that breaks, of one that cannot be injected here."""

from __future__ import annotations

import random
import subprocess
import sys

import page
import pytest
from catalogue import FAULTS, Fault, Outcome, load
from recording import LOST, ROOT, THERE, TORN, Folder, Step

ODD = Fault("X01", "odd", "nothing", 1, 0, load()[0].inject)


@pytest.mark.parametrize(
    ("row", "passed", "says"),
    [
        (page.Row(ODD, 1.0, Outcome(5, 0, 3, 0, 1.25, "fine")), True, "injected      5  lost 0  duplicated 3"),
        (page.Row(ODD, 1.0, Outcome(5, 1, note="batch 7")), False, "FAILED: batch 7"),
        (page.Row(ODD, 1.0, Outcome(5, 0, 0, 1)), False, "wrong 1"),
        (page.Row(ODD, 1.0, Outcome(0)), False, "FAILED"),
        (page.Row(ODD, 1.0, not_here="no strace"), True, "not possible here: no strace"),
        (page.Row(ODD, 1.0, broken="KeyError"), False, "BROKEN: KeyError"),
    ],
)
def test_a_loss_a_wrong_value_or_a_broken_fault_fails_and_a_missing_tool_does_not(row, passed, says):
    assert row.passed == passed
    assert says in page.line(row)
    assert ("FAILED: X01" in page.summary([row], 7)) != passed
    assert f"| X01 | {ODD.title} |" in page.written([row], 7, 60.0)


def test_a_fault_is_run_by_its_name_and_says_what_came_of_it():
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "faults" / "run.py", "P12", "--seed", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "injected     50  lost 0" in done.stdout
    unknown = subprocess.run(
        [sys.executable, ROOT / "tests" / "faults" / "run.py", "P99"], capture_output=True, text=True, check=False
    )
    assert unknown.returncode == 2
    assert "no such fault; there are P01" in unknown.stderr


def test_every_fault_says_what_must_happen_and_has_an_id_of_its_room():
    load()
    assert len(FAULTS) > 20
    for id_, fault in FAULTS.items():
        assert id_[:3].rstrip("0123456789") in ("P", "N", "T", "B")
        assert fault.title
        assert fault.expected
        assert fault.times >= fault.quick


def test_a_cut_leaves_what_was_synced_and_of_the_rest_nothing_all_or_some_sectors():
    folder = Folder({})
    steps = [
        Step("make", "a"),
        Step("write", "a", 0, b"1" * 1024),
        Step("sync", "a"),
        Step("sync"),
        Step("write", "a", 256, b"2" * 1024),
        Step("cut", "a", 1200),
        Step("make", "b"),
    ]
    for step in steps:
        folder.do(step)
    chance = random.Random(1)
    assert folder.after(LOST, chance) == {"a": b"1" * 1024}
    assert folder.after(THERE, chance) == {"a": b"1" * 256 + b"2" * 944, "b": b""}
    torn = {folder.after(TORN, chance).get("a") for _ in range(200)}
    assert b"1" * 1024 in torn
    assert b"1" * 512 + b"2" * 512 in torn, "the first sector is not there, the second is"
    assert all(content[:256] == b"1" * 256 for content in torn)
