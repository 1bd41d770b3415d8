"""A few rounds of every fault that is cheap enough; `make faults` runs all of them, many times."""

from __future__ import annotations

import random

import pytest
from catalogue import NotHere, Round, load

QUICK = [fault for fault in load() if fault.quick]


@pytest.mark.parametrize("fault", QUICK, ids=lambda fault: fault.id)
async def test_nothing_is_lost_beyond_the_promise_and_nothing_is_wrong(fault, tmp_path):
    try:
        outcome = await fault.inject(Round(fault.quick, tmp_path, random.Random(fault.id)))
    except NotHere as missing:
        pytest.skip(str(missing))
    assert outcome.passed, outcome
