"""B01 to B14: the faults of the bus are tests of their own, on virtual time (tests/field). Here they are run."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

from catalogue import Inject, NotHere, Outcome, Round, fault

ROOT = Path(__file__).parents[2]
POLLS = 600
"""Polls under each fault in test_wrong_values, for each time that the fault is to be injected."""
LINE, REPORT, SCAN = "tests/field/faults", "tests/field/test_report.py", "tests/control/test_scan.py"


class Cases(NamedTuple):
    """Which tests hold a fault: files, and pytest's expression."""

    title: str
    expected: str
    chosen: str
    files: tuple[str, ...] = (LINE,)


BUS = {
    "B01": Cases("USB adapter pulled out in the middle of a read", "said once, taken up within 5 s", "b01 or unplug"),
    "B02": Cases("replugged under another number", "found by its stable name, without a restart", "b02"),
    "B03": Cases("babbling bus", "discarded, said once, taken up when it is silent", "b03 or babble"),
    "B04": Cases("flipped bits, lost bytes, noise", "retried; never a wrong value", "b04 or crc or lost or noise"),
    "B05": Cases("replies in pieces", "taken by length and checksum, not by silence", "b05 or fragmented or clipped"),
    "B06": Cases("echo of one's own request", "stripped exactly", "b06 or echo"),
    "B07": Cases("a late reply crosses into the next request", "never taken for another register's", "b07 or late"),
    "B08": Cases("exceptions 1 to 6, 10, 11", "for good: left alone; else asked again", "b08 or exception or storm"),
    "B09": Cases("another device at the address", "said; its values are not believed", "b09"),
    "B10": Cases(
        "two devices at one address", "told by its probable cause", "b10 or conflict or one_address", (LINE, SCAN)
    ),
    "B11": Cases("a dead device among thirty", "costs the others next to nothing", "b11 or dead"),
    "B12": Cases(
        "wrong speed, parity, word order", "told by its probable cause", "b12 or speed or parity", (LINE, SCAN)
    ),
    "B13": Cases(
        "a counter wraps, is reset, sticks", "the total goes on", "counter or total or restarted or steady", (REPORT,)
    ),
    "B14": Cases("TCP device never answers, answers others, floods", "dropped, hung up on, taken up again", "b14"),
}


def injecting(cases: Cases) -> Inject:
    """Run the tests of a fault in a process of their own: lost or wrong is what fails."""

    async def inject(round_: Round) -> Outcome:
        report = round_.folder / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", *cases.files]
        command += ["-k", cases.chosen, f"--junitxml={report}", f"--polls={POLLS * round_.times}"]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
        pytest = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said, _ = await pytest.communicate()
        if not report.exists():
            raise AssertionError(said.decode()[-2000:])
        return told(ET.parse(report).getroot())

    return inject


def told(report: ET.Element) -> Outcome:
    """What pytest's report says."""
    cases = report.findall(".//testcase")
    skipped = [case for case in cases if case.find("skipped") is not None]
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    if cases and len(skipped) == len(cases):
        raise NotHere("its tests are skipped here")
    wrong = [case for case in failed if "wrong_value" in case.get("name", "")]
    note = "; ".join(["test cases, on virtual time", *(case.get("name", "") for case in failed)])
    return Outcome(len(cases) - len(skipped), len(failed) - len(wrong), 0, len(wrong), None, note)


for number, what in BUS.items():
    fault(number, what.title, what.expected, times=1)(injecting(what))
