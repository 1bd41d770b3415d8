from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from drivers.base import Point
from gateway.field.schedule import Schedule


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
