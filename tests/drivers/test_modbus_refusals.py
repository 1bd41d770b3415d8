"""Points that a device has refused for long are asked for rarely; those that ever answered, always."""

from __future__ import annotations

from itertools import pairwise

from drivers.base import Sample
from drivers.modbus.driver import Modbus
from drivers.modbus.refusals import LONGEST_REST

REFUSED = Sample("holding_3", None, "bad:exception-2")


def asked_at(meter, driver, points, times):
    """The times at which the points cost a request; each poll gives one sample per point."""
    asked = []
    for now in times:
        meter.asked.clear()
        assert len(meter.talk(driver.poll(points, float(now)))) == len(points)
        if meter.asked:
            asked.append(now)
    return asked


def test_a_point_that_never_answered_rests_longer_and_longer(device, words):
    meter, driver, points = device(1), Modbus(1), words(3)
    asked = asked_at(meter, driver, points, range(0, 20000, 5))
    assert asked[:3] == [0, 5, 10]
    gaps = [later - earlier for earlier, later in pairwise(asked[2:])]
    assert gaps == [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600, 3600, 3600]
    assert LONGEST_REST == 3600


def test_three_refusals_are_needed_however_much_time_goes_by(device, words):
    assert asked_at(device(1), Modbus(1), words(3), [0, 1000, 2000, 2005, 2009, 2010]) == [0, 1000, 2000, 2010]


def test_while_it_rests_it_is_not_planned_and_costs_its_neighbours_nothing(device, words):
    meter, driver = device(1, {2: 12, 4: 14}), Modbus(1)
    points = words(2, 3, 4)
    asked_at(meter, driver, points, (0, 5, 10))
    assert driver.plan(points) == [(points[0],), (points[2],)]
    assert driver.plan(points[1:2]) == []
    meter.asked.clear()
    assert sorted(meter.talk(driver.poll(points, 11.0))) == [Sample("holding_2", 12), REFUSED, Sample("holding_4", 14)]
    assert meter.asked == [(3, 2, 1), (3, 4, 1)]
    assert driver.holes == [["holding", 3, 1]]
    assert len(Modbus(1, holes=driver.holes).plan(points)) == 3  # the wait is not remembered over a restart


def test_it_comes_back_as_soon_as_it_answers(device, words):
    meter, driver, points = device(1, {2: 12}), Modbus(1), words(2, 3)
    asked_at(meter, driver, points, (0, 5, 10))
    meter.words[3] = 13
    assert meter.talk(driver.poll(points, 19.0)) == [REFUSED, Sample("holding_2", 12)]
    assert meter.talk(driver.poll(points[1:], 20.0)) == [Sample("holding_3", 13)]
    assert driver.plan(points) == [tuple(points)]
    assert driver.holes == []


def test_a_point_that_answered_once_is_asked_every_time(device, words):
    meter, driver, points = device(1, {3: 13}), Modbus(1), words(3)
    meter.talk(driver.poll(points, 0.0))
    meter.words.clear()
    assert asked_at(meter, driver, points, range(10, 20000, 10)) == list(range(10, 20000, 10))


def test_a_function_that_the_device_does_not_know_costs_next_to_nothing(device, words):
    meter, driver, points = device(1), Modbus(1), words(0, 1, 2)
    meter.unknown = {3}
    assert asked_at(meter, driver, points, (0, 5, 10, 15, 19, 20)) == [0, 5, 10, 20]
    assert {s.quality for s in meter.talk(driver.poll(points, 21.0))} == {"bad:exception-1"}


def test_each_point_wakes_at_its_own_time(device, words):
    meter, driver = device(1), Modbus(1)
    asked_at(meter, driver, words(3), (0, 5, 10))
    asked_at(meter, driver, words(7), (3, 8, 13))
    meter.asked.clear()
    meter.talk(driver.poll(words(3, 7), 20.0))
    assert meter.asked == [(3, 3, 1)]


def test_a_border_is_tried_again_after_an_hour_then_after_two(device, words):
    meter, driver, points = device(1, {0: 10, 1: 11}), Modbus(1), words(0, 1)
    meter.most = 1
    refused = []
    for now in range(0, 40000, 100):
        meter.asked.clear()
        assert [s.value for s in meter.talk(driver.poll(points, float(now)))] == [10, 11]
        if (3, 0, 2) in meter.asked:
            refused.append(now)
    assert refused == [0, 3600, 3600 + 7200, 3600 + 7200 + 14400]


def test_one_sporadic_refusal_does_not_cost_a_request_for_ever(device, words):
    meter, points = device(1, {0: 10, 1: 11}), words(0, 1)
    driver = Modbus(1, holes=[["holding", 1, 0]])  # as an earlier run has left it
    assert len(driver.plan(points)) == 2
    meter.talk(driver.poll(points, 500.0))
    assert len(driver.plan(points)) == 2
    meter.asked.clear()
    assert [s.value for s in meter.talk(driver.poll(points, 500.0 + 3600.0))] == [10, 11]
    assert meter.asked == [(3, 0, 2)]
    assert driver.holes == []


def test_every_refusal_is_counted_by_its_code(device, words):
    meter, driver = device(1, {0: 10}), Modbus(1)
    meter.talk(driver.poll(words(0, 5), 0.0))
    meter.unknown = {3}
    meter.talk(driver.poll(words(0), 1.0))
    assert driver.exceptions == {2: 2, 1: 1}
