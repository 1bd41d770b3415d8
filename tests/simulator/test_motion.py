"""Values move like the real thing, and a register can always carry them."""

from __future__ import annotations

import itertools

import pytest

from gateway.simulator.motion import motion
from gateway.simulator.registers import get, put, value

MIDNIGHT = 1_780_000_000.0
DAY = range(0, 86400, 60)


def over_a_day(point, seed=1, device="meter-1"):
    moves = motion(seed, device, point)
    return [moves(MIDNIGHT + second) for second in DAY]


@pytest.mark.parametrize("unit", ["kW.h", "m3", "1", "h", "L"])
@pytest.mark.parametrize("kind", ["u32", "u64", "f32", "f64", "bcd"])
def test_a_counter_only_rises(point, unit, kind):
    more = {"length": 3} if kind == "bcd" else {"scale": 0.001 if kind == "u64" else 1.0}
    counter = point("total", "input", 0, kind, unit=unit, kind="counter", **more)
    moves, block, seen = motion(7, "meter-1", counter), bytearray(8), []
    for second in DAY:
        put(counter.where, moves(MIDNIGHT + second), block, 0)
        seen.append(value(counter, get(counter.where, bytes(block), 0)))
    assert all(a <= b for a, b in itertools.pairwise(seen))
    assert seen[-1] > seen[0]


def test_a_narrow_counter_wraps_at_its_full_range(point):
    counter = point("cars", "input", 0, "u16", kind="counter")
    moves = motion(1, "radar", counter)
    seen = [int(moves(MIDNIGHT + 600 * k)) for k in range(144 * 30)]
    falls = [(a, b) for a, b in itertools.pairwise(seen) if b < a]
    assert falls
    assert all(a > 65000 and b < 500 for a, b in falls)


def test_the_same_seed_device_and_time_give_the_same_value(point):
    voltage = point("voltage_l1", "input", 0, "f32", unit="V")
    assert over_a_day(voltage) == over_a_day(voltage)
    assert over_a_day(voltage) != over_a_day(voltage, seed=2)
    assert over_a_day(voltage) != over_a_day(voltage, device="meter-2")


@pytest.mark.parametrize(
    ("name", "unit", "low", "high"),
    [
        ("voltage_l1", "V", 215, 245),
        ("current_l1", "A", 0, 25),
        ("frequency", "Hz", 49.8, 50.2),
        ("power_factor", "1", 0.8, 1),
        ("temperature", "Cel", 20, 42),
        ("humidity", "%", 20, 100),
        ("flow", "m3/h", 0, 14),
        ("speed", "rpm", 1300, 1600),
        ("battery", "V", 11, 14),
        ("light", "lx", 0, 60000),
    ],
)
def test_a_gauge_is_of_a_believable_size_and_moves(point, name, unit, low, high):
    day = over_a_day(point(name, "input", 0, "f32", unit=unit))
    assert low <= min(day) < max(day) <= high


def test_current_follows_the_day(point):
    day = over_a_day(point("current", "input", 0, "f32", unit="A"))
    assert max(day) > 1.5 * min(day)


def test_no_sentinel_by_accident_and_never_outside_the_limits(point):
    every_odd = frozenset(range(1, 256, 2))
    level = point("level", "input", 0, "u8lo", unit="V", sentinels=every_odd, low=10.0, high=99.0)
    day = over_a_day(level)
    assert not every_odd & set(day)
    assert all(10 <= raw <= 99 for raw in day)
    assert over_a_day(point("x", "input", 0, "u16", sentinels=frozenset({0, 1, 2}), low=0.0, high=4.0, unit="V"))


def test_a_register_that_is_too_small_gets_a_value_that_fits(point):
    power = point("power", "input", 0, "u16", unit="W", scale=0.01)
    assert all(0 <= raw <= 65535 for raw in over_a_day(power))
    assert len(set(over_a_day(power))) > 10
    inverted = point("power", "input", 0, "s16", unit="W", scale=-1.0, low=-500.0)
    assert all(-32768 <= raw <= 500 for raw in over_a_day(inverted))


def test_a_state_walks_through_its_labels(point):
    state = point("mode", "holding", 0, kind="state", labels={0: "tắt", 1: "tự động", 4: "tay", 70000: "never"})
    assert set(over_a_day(state)) == {0, 1, 4}


def test_an_alarm_is_rare(point):
    day = over_a_day(point("leak", "discrete", 0, "bit", kind="alarm"))
    assert 0 < sum(map(bool, day)) < len(day) / 2
    words = over_a_day(point("alarms", "holding", 0, kind="alarm"))
    assert 0 in words
    assert len(set(words)) > 1


def test_what_can_be_set_stands_still_until_it_is_set(point):
    for moving in (
        point("setpoint", "holding", 0, unit="Cel", scale=0.1, writable=True),
        point("relay", "coil", 0, "bit", writable=True, kind="state"),
        point("id", "holding", 0, "string", length=4),
        point("address", "holding", 0, kind="config", low=1.0),
    ):
        assert len(set(over_a_day(moving))) == 1


def test_a_clock_of_1970_counts_as_well(point):
    moves = motion(1, "m", point("total", "input", 0, "u32", unit="kW.h", kind="counter", scale=0.01))
    assert 0 < int(moves(10.0)) < int(moves(7200.0))
