from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.base import Point
from gateway.field.schedule import NEARLY, SLICE, Load, Schedule, phases


def point(name: str, every: float | None) -> Point:
    return Point(name, None, every=every)


def serve(schedule: Schedule, now: float, seconds: float, cost: float) -> list[tuple[float, int, tuple[str, ...]]]:
    """Poll what is due for so long; each poll costs bus time. Returns (time, device, points)."""
    end, polls = now + seconds, []
    while now < end:
        job = schedule.take(now)
        if job is None:
            now = schedule.next_due(now)
            continue
        polls.append((now, job.device, tuple(p.name for p in job.points)))
        now += cost
        schedule.charge(cost)
    return polls


def test_a_period_never_drifts_however_long_a_poll_takes():
    schedule = Schedule.of([[point("a", 1.0)]], 100.0)
    polls = serve(schedule, 100.0, 3600.0, cost=0.3)
    assert [time for time, _, _ in polls] == [100.0 + n for n in range(3600)]


def test_points_due_together_are_one_job():
    schedule = Schedule.of([[point("fast", 1.0), point("slow", 5.0)]], 0.0)
    polls = serve(schedule, 0.0, 6.0, cost=0.01)
    assert [names for _, _, names in polls] == [("fast", "slow")] + [("fast",)] * 4 + [("fast", "slow")]


def test_after_an_overrun_slots_are_skipped_and_counted_not_made_up_for():
    schedule = Schedule.of([[point("a", 1.0), point("b", 1.0)]], 0.0)
    first = schedule.take(0.0)
    assert first is not None
    assert first.missed == 0
    late = schedule.take(3.5)
    assert late is not None
    assert late.missed == 2 * 2  # two points, at 1 s and 2 s; the poll at 3.5 s serves the slot of 3 s
    assert schedule.take(3.6) is None
    assert schedule.next_due(3.6) == 4.0


@given(st.lists(st.floats(0.001, 7.0), min_size=1, max_size=200))
def test_every_slot_of_the_grid_is_either_polled_or_counted_as_missed(costs):
    schedule = Schedule.of([[point("a", 1.0)]], 0.0)
    now, polled, missed = 0.0, 0, 0
    for cost in costs:
        job = schedule.take(now)
        if job is None:
            now = schedule.next_due(now)
            continue
        polled += 1
        missed += job.missed
        now += cost
    assert polled + missed == schedule.timed[0].due


def test_the_earliest_deadline_goes_first():
    schedule = Schedule.of([[point("slow", 10.0)], [point("fast", 1.0)]], 0.0)
    assert [schedule.take(0.0).device, schedule.take(0.0).device] == [1, 0]


def test_asap_devices_share_what_is_left_in_turn():
    schedule = Schedule.of([[point("a", None)], [point("b", None)], [point("t", 1.0)]], 0.0)
    polls = serve(schedule, 0.0, 2.0, cost=0.1)
    assert [device for _, device, _ in polls][:5] == [2, 0, 1, 0, 1]


def test_an_overfull_bus_still_serves_asap_points():
    schedule = Schedule.of([[point("t", 0.1)], [point("a", None)]], 0.0)
    polls = serve(schedule, 0.0, 60.0, cost=0.2)
    turns = sum(device == 1 for _, device, _ in polls)
    assert 40 <= turns <= 60  # one turn for each second of the others' bus time


def test_a_held_device_is_left_alone_and_its_slots_count_as_missed():
    schedule = Schedule.of([[point("a", 1.0)], [point("b", None)]], 0.0)
    schedule.take(0.0)
    schedule.hold(0, 5.5)
    schedule.hold(1, 9.0)
    assert schedule.take(2.0) is None
    assert schedule.next_due(2.0) == 5.5
    job = schedule.take(5.5)
    assert job is not None
    assert (job.device, job.missed) == (0, 4)


def test_without_points_nothing_is_ever_due():
    assert Schedule.of([[]], 0.0).next_due(0.0) == inf


def test_neighbours_that_meet_within_a_twentieth_of_a_period_share_their_request():
    devices = [[point("fast", 7.0), point("slow", 60.0)]]
    merged = serve(Schedule.of(devices, 0.0, joins=lambda *_: True), 0.0, 4200.0, cost=0.01)
    refused = serve(Schedule.of(devices, 0.0, joins=lambda *_: False), 0.0, 4200.0, cost=0.01)
    assert len(refused) == 600 + 70 - 10  # they meet by themselves every 420 s
    assert len(merged) == 600 + 70 - 10 - 30
    slow = [time for time, _, names in merged if "slow" in names]
    assert len(slow) == 70
    assert all(60.0 * n - NEARLY * 60.0 <= time <= 60.0 * n + 0.02 for n, time in enumerate(slow))


def test_what_a_device_needs_a_rest_for_is_given_out_once_more():
    schedule = Schedule.of([[point("a", 10.0), point("b", 10.0)]], 0.0)
    job = schedule.take(0.0)
    assert job is not None
    schedule.defer(0, job.points[1:], 0.5)
    schedule.hold(0, 0.5)
    assert schedule.take(0.4) is None
    assert schedule.next_due(0.4) == 0.5
    again = schedule.take(0.5)
    assert again is not None
    assert ([p.name for p in again.points], again.missed) == (["b"], 0)
    assert schedule.take(0.5) is None


def test_a_quiet_time_is_not_missed():
    schedule = Schedule.of([[point("a", 1.0), point("slow", 60.0)]], 0.0)
    schedule.take(0.0)
    schedule.skip(0, 1000.5)
    assert schedule.next_due(1.0) == 1001.0
    job = schedule.take(1001.0)
    assert job is not None
    assert job.missed == 0
    assert schedule.next_due(1001.0) == 1002.0


def test_a_bus_with_room_keeps_everybody_on_the_grid():
    assert phases([Load(0, 1.0, 0.2), Load(1, 1.0, 0.2)]) == {}
    assert phases([]) == {}


def test_a_fuller_bus_is_spread_by_what_each_costs():
    found = phases([Load(0, 1.0, 0.2), Load(1, 1.0, 0.4), Load(2, 1.0, 0.2)])
    assert found == pytest.approx({(0, 1.0): 0.0, (1, 1.0): 0.25, (2, 1.0): 0.75})


def test_slower_points_stay_with_the_faster_ones_of_their_device():
    found = phases([Load(d, every, 0.06) for d in range(10) for every in (1.0, 10.0)])
    for device in range(10):
        assert (found[device, 10.0] - found[device, 1.0]) % 1.0 == 0
    assert len({int(found[device, 10.0]) for device in range(10)}) >= 9  # not all in the same second


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from([0.5, 1.0, 2.0, 5.0, 60.0]), st.floats(0.001, 0.5)),
        unique_by=lambda load: load[:2],
        max_size=30,
    )
)
def test_a_phase_is_always_less_than_its_period(loads):
    for (_, every), offset in phases([Load(*load) for load in loads]).items():
        assert 0 <= offset < every


def test_a_slow_point_of_a_spread_bus_is_asked_at_the_start_and_then_on_its_grid():
    schedule = Schedule.of([[point("fast", 1.0)], [point("hourly", 3600.0)]], 100.0, {(1, 3600.0): 1800.0})
    polls = serve(schedule, 100.0, 7200.0, cost=0.01)
    assert [round(time - 100.0) for time, device, _ in polls if device == 1] == [0, 1800, 5400]


def test_spread_points_stay_on_their_own_grid_for_hours():
    spread = phases([Load(device, 1.0, 0.08) for device in range(10)])
    schedule = Schedule.of([[point("a", 1.0)] for _ in range(10)], 0.0, spread)
    polls = serve(schedule, 0.0, 3600.0, cost=0.08)
    for device in range(10):
        times = [time for time, who, _ in polls if who == device]
        assert len(times) >= 3599
        assert max(abs(time - spread[device, 1.0] - n) for n, time in enumerate(times)) <= 0.08


def test_asap_devices_share_time_and_not_turns():
    schedule = Schedule.of([[point("slow", None)], [point("a", None)], [point("b", None)]], 0.0)
    used, now = [0.0, 0.0, 0.0], 0.0
    while now < 600.0:
        job = schedule.take(now)
        assert job is not None
        cost = 0.9 if job.device == 0 else 0.02
        used[job.device] += cost
        now += cost
        schedule.charge(cost)
    assert max(used) - min(used) <= 0.9 + SLICE + 0.02


@given(st.lists(st.floats(0.0599, 0.0601), min_size=50, max_size=50))
def test_devices_that_cost_the_same_are_asked_in_turn_however_their_times_waver(costs):
    schedule = Schedule.of([[point(name, None)] for name in "abcde"], 0.0)
    now, order = 0.0, []
    for cost in costs:
        job = schedule.take(now)
        assert job is not None
        order.append(job.device)
        now += cost
        schedule.charge(cost)
    assert order == [0, 1, 2, 3, 4] * 10


def test_an_asap_device_that_was_away_does_not_catch_up():
    schedule = Schedule.of([[point("a", None)], [point("b", None)]], 0.0)
    schedule.hold(0, 100.0)
    assert {device for _, device, _ in serve(schedule, 0.0, 100.0, cost=0.1)} == {1}
    after = [device for _, device, _ in serve(schedule, 100.0, 10.0, cost=0.1)]
    assert abs(after.count(0) - after.count(1)) <= 2
