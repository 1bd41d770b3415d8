"""Nobody ever gets a wrong value: polls under each fault of a line, unit ids 1 to 50, fixed seeds.

The limits, which no master can pass on a line without transaction numbers: four flipped bits fit a CRC-16 once in about
32,000 times; a reply of the same shape that is later than the driver's memory of a time-out (10 s) looks like a fresh
one; and so does a late reply that has by mistake the length, or the unit, of the one that is being asked for. The
simulated faults keep within them.
"""

from __future__ import annotations

import pytest

FAULTS = [
    "silence rate=0.3",
    "slow seconds=0.4",
    "slow seconds=0.95",
    "late seconds=1.05 rate=0.3",
    "late seconds=2 rate=0.3",
    "late seconds=3 rate=0.5",
    "late seconds=3",
    "wrong-unit rate=0.3",
    "wrong-function rate=0.3",
    "wrong-length rate=0.3",
    "crc rate=0.3 bits=1",
    "crc rate=0.5 bits=4",
    "noise before=1",
    "noise before=2 after=1",
    "noise before=4",
    "noise before=45 rate=0.3",
    "clipped rate=0.3",
    "lost rate=0.3 bytes=3",
    "fragmented piece=4 gap=0.02",
    "conflict",
    "exception rate=0.3 code=2",
    "exception rate=0.3 code=6",
    "exception rate=0.3 code=11",
    "storm code=2 seconds=5 every=20",
    "reboot seconds=3 every=30",
    "echo",
    "babble seconds=3 every=20 after=5",
    "unplug seconds=3 every=20",
]
TOGETHER = [
    ("late seconds=2.5 rate=0.2", "noise before=2", "crc rate=0.1 bits=4", "exception rate=0.1 code=2"),
    ("slow seconds=0.3", "noise before=3", "fragmented piece=5 gap=0.03", "echo"),
    ("late seconds=1.2 rate=0.4", "wrong-function rate=0.2", "silence rate=0.1", "noise before=4 rate=0.2"),
    ("wrong-length rate=0.2", "wrong-unit rate=0.2", "silence rate=0.2", "slow seconds=0.2"),
    ("noise before=20 rate=0.5", "slow seconds=0.25", "lost rate=0.2"),
]
FIFTY = tuple(range(1, 51))


@pytest.mark.parametrize("fault", FAULTS)
def test_no_wrong_value_is_ever_told(field_of, polls, fault):
    assert field_of({"rs485-1": [fault]}, FIFTY, polls=polls, baud=115200).wrong == []


@pytest.mark.parametrize("faults", TOGETHER, ids=" + ".join)
@pytest.mark.parametrize("seed", [1, 2])
def test_no_wrong_value_is_told_when_faults_come_together(field_of, polls, faults, seed):
    assert field_of({"rs485-1": faults}, FIFTY, polls=polls, baud=115200, seed=seed).wrong == []
