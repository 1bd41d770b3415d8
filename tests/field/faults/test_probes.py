"""What a dead device is asked: one cheap thing, mostly with a short wait. As the wire saw it, on a virtual clock."""

from __future__ import annotations

import asyncio
import statistics


def test_a_dead_device_gets_one_short_question_for_one_point(field_of):
    seen = []

    async def silence(field):
        await asyncio.sleep(20.0)
        field.simulator.afflict("meter-1", ["silence"])
        await asyncio.sleep(40.0)
        field.poller.talks.watchers.append(seen.append)

    field_of({}, (1, 2), seconds=600.0, every=1.0, script=silence)
    probes = [traced for traced in seen if traced.partner == "meter-1"]
    assert len(probes) >= 8
    assert {int.from_bytes(traced.request[4:6], "big") for traced in probes} == {1}
    assert statistics.median(traced.took for traced in probes) < 0.25  # the time-out of this bus is 1 s
    assert max(traced.took for traced in probes) >= 1.0  # but now and then it gets all the time there is
