"""The simulator knows what every point truly held, and when."""

from __future__ import annotations

import asyncio

import pytest

from gateway.simulator import Simulator


@pytest.fixture
def simulator(tcp_site, point, hands):
    points = (
        point("flow", "input", 0, "f32", unit="m3/h"),
        point("alarms", "holding", 0, kind="state", low=0.0),
        point("alarm_3", "holding", 0, "bit", bit=3, kind="alarm"),
        point("odd", "holding", 5, "u16", kind="config", sentinels=frozenset({0}), low=0.0, high=0.0),
    )
    return Simulator(tcp_site(meter=(1, points)), clock=hands.clock())


def test_one_value_within_a_tick_and_two_across_it(simulator, hands):
    before = simulator.held("meter", "flow", 1_000_000)
    hands.now += 1
    simulator.refresh()
    after = simulator.held("meter", "flow", 1_001_500)
    assert len(before) == len(after) == 1
    assert before != after
    assert simulator.held("meter", "flow", 1_000_500) == before
    assert simulator.held("meter", "flow", 1_000_980) == (*before, *after)
    assert simulator.held("meter", "flow", 1_001_020) == (*before, *after)
    assert simulator.held("meter", "flow", 1_001_020, slack_ms=10) == after


def test_history_ends_after_fifteen_minutes(simulator, hands):
    for _ in range(2000):
        hands.now += 1
        simulator.refresh()
    now = int(hands.now * 1000)
    assert simulator.held("meter", "flow", now - 890_000)
    assert simulator.held("meter", "flow", now - 910_000) == ()


def test_parts_of_one_register_are_told_as_the_register_carries_them(simulator, hands):
    for _ in range(200):
        hands.now += 7
        simulator.refresh()
        now = int(hands.now * 1000)
        (word,), (bit,) = (simulator.held("meter", name, now, slack_ms=0) for name in ("alarms", "alarm_3"))
        assert bit is bool(word & 8)


def test_a_sentinel_is_no_value(simulator):
    assert simulator.held("meter", "odd", 1_000_000) == (None,)


def test_the_registers_move_while_it_serves(simulator, hands, virtually):
    async def serve() -> list[object]:
        task = asyncio.create_task(simulator.run())
        await simulator.ready.wait()
        await asyncio.sleep(60.5)
        task.cancel()
        await asyncio.wait({task})
        return [simulator.held("meter", "flow", 1_000_500 + 1000 * k) for k in range(60)]

    truth = virtually(serve())
    assert all(len(values) == 1 for values in truth)
    assert len(set(truth)) > 30


def test_another_run_goes_on_where_the_first_was(simulator, tcp_site, hands):
    hands.now += 100
    simulator.refresh()
    site = tcp_site(meter=(1, tuple(slot.point for slot in simulator._devices["meter"]._slots.values())))
    again = Simulator(site, clock=hands.clock())
    now = int(hands.now * 1000)
    assert again.held("meter", "flow", now) == simulator.held("meter", "flow", now, slack_ms=0)
