"""The stage itself: it finds nothing wrong with an agent that works, and sees what it is there to see."""

from __future__ import annotations

import json
from itertools import pairwise

from devices import Answer, mark, now
from ledger import Ledger
from stage import stage


async def test_nothing_is_found_wrong_with_an_agent_that_works(tmp_path):
    async with stage(tmp_path, every="100ms") as s:
        await s.start()
        await s.polled(20)
        await s.recovered()
        await s.stop()
        outcome = await s.outcome(1)
    assert outcome.passed, outcome
    assert outcome.duplicated == 0
    assert len(s.ledger.told) >= 60


async def test_a_killed_agent_owes_what_is_older_than_the_window(tmp_path):
    async with stage(tmp_path, every="100ms", store={"linger": "0.2s", "commit_every": "0.2s"}) as s:
        await s.start()
        await s.polled(20)
        await s.kill()
        await s.start()
        await s.recovered()
        await s.stop()
        outcome = await s.outcome(1)
    assert outcome.passed, outcome


def batch(seq, *rows, hist=False, **more):
    """A telemetry batch of device-1 in JSON: rows are (ts, count, ms)."""
    at = rows[0][0]
    times = [ts for ts, *_ in rows]
    steps = [later - earlier for earlier, later in pairwise([at, *times])]
    columns = [[None, [count for _, count, _ in rows]], [None, [ms for *_, ms in rows]]]
    columns.append([None, [mark(1, count) for _, count, _ in rows]])
    body = {"v": 1, "gw": "gw-1", "epoch": "1-00", "seq": seq, "t0": at, "m0": at, "clk": "synced", "boot": "b"} | more
    body |= {"d": [["device-1", "c", ["count", "ms", "mark"], steps, columns, []]]} | ({"hist": True} if hist else {})
    return json.dumps(body).encode()


def heard(*payloads):
    ledger = Ledger(anchor=0.0)
    for payload in payloads:
        ledger.take("city/v1/gw-1/up/telemetry", payload)
    return ledger


ANSWERS = {1: [Answer(1, n, n * 1000.0, taken=True) for n in range(1, 6)]}


def test_two_answers_of_one_millisecond_are_two():
    ledger = heard(batch(1, (1000, 1, 1000), (1000, 2, 1000)))
    assert [answer.count for answer in ledger.missing(ANSWERS[1])] == [3, 4, 5]


def test_the_ledger_sees_what_is_missing_and_what_came_twice():
    ledger = heard(batch(1, (1000, 1, 1000)), batch(1, (1000, 1, 1000)), batch(3, (3000, 3, 3000)))
    assert [answer.count for answer in ledger.missing(ANSWERS[1])] == [2, 4, 5]
    assert ledger.duplicated() == 1
    assert ledger.gaps([], 0.0) == ["batch t 2 of epoch 1-00 is missing"]
    assert ledger.gaps([3500.0], 1000.0) == []
    dropped = {"epoch": "1-00", "seq": 1, "data": {"dropped": [{"epoch": "1-00", "stream": "t", "ranges": [[2, 2]]}]}}
    ledger.take("city/v1/gw-1/up/event", json.dumps(dropped).encode())
    assert ledger.gaps([], 0.0) == []


def test_the_ledger_sees_a_part_that_is_missing():
    ledger = heard(batch(1, (1000, 1, 1000), part=[1, 2]), batch(2, (2000, 2, 2000)))
    assert ledger.gaps([], 0.0) == ["batch t 1 of epoch 1-00 is missing"]


def test_the_ledger_sees_values_and_times_that_no_device_gave():
    ledger = heard(batch(1, (1000, 1, 1000), (2300, 2, 2000)))
    assert ledger.mistaken(ANSWERS) == []
    wrong = heard(batch(1, (1000, 1, 1001), (2000, 6, 2000), (3100, 2, 2000), (1900, 2, 2000)))
    assert len(wrong.mistaken(ANSWERS)) == 4


def test_the_ledger_sees_live_readings_and_backlog_out_of_order():
    assert heard(batch(2, (2000, 2, 2000)), batch(1, (1000, 1, 1000), hist=True)).disorder() == []
    assert len(heard(batch(2, (2000, 2, 2000)), batch(1, (1000, 1, 1000))).disorder()) == 1
    assert len(heard(batch(2, (2000, 2, 2000), hist=True), batch(1, (1000, 1, 1000), hist=True)).disorder()) == 1


def test_the_devices_clock_is_that_of_the_whole_machine():
    assert now() > 0
