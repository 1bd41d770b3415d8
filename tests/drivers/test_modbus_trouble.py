"""Refused ranges, bad frames and silence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.base import BadFrame, NoReply, Point, Sample
from drivers.modbus.driver import Modbus
from drivers.modbus.register import Register


def test_a_bad_frame_is_asked_for_once_more(converse, rtu, words):
    ask, answer = rtu(1, "03 0000 0001"), rtu(1, "03 02 0007")
    damaged = BadFrame(heard=rtu(1, "03 02 0006")[:-1] + b"?")
    driver = Modbus(1)
    assert converse(driver.poll(words(0), 0.0), [(ask, damaged), (ask, answer)]) == [Sample("holding_0", 7)]
    with pytest.raises(BadFrame):
        converse(driver.poll(words(0), 1.0), [(ask, damaged), (ask, damaged)])


def test_silence_is_not_asked_again(converse, rtu, words):
    with pytest.raises(NoReply):
        converse(Modbus(1).poll(words(0), 0.0), [(rtu(1, "03 0000 0001"), NoReply())])


def test_other_exceptions_are_the_quality_of_every_point(converse, rtu, words):
    driver = Modbus(1)
    samples = converse(driver.poll(words(0, 1), 0.0), [(rtu(1, "03 0000 0002"), rtu(1, "83 06"))])
    assert samples == [Sample("holding_0", None, "bad:exception-6"), Sample("holding_1", None, "bad:exception-6")]
    assert driver.holes == []


def test_a_refused_hole_is_left_out_from_then_on(device, words):
    meter = device(1, {0: 10, 1: 11, 4: 14})
    driver = Modbus(1)
    points = words(0, 1, 4)
    for _ in range(2):
        assert [s.value for s in meter.talk(driver.poll(points, 0.0))] == [10, 11, 14]
    assert meter.asked == [(3, 0, 5), (3, 0, 2), (3, 4, 1), (3, 0, 2), (3, 4, 1)]
    assert driver.holes == [["holding", 2, 2]]
    assert len(driver.plan(points)) == 2
    assert len(Modbus(1, holes=driver.holes).plan(points)) == 2


def test_a_refused_point_costs_only_itself_and_comes_back(device, words):
    meter = device(1, {0: 10, 1: 11, 2: 12, 4: 14, 5: 15})
    driver = Modbus(1)
    points = words(0, 1, 2, 3, 4, 5)
    samples = meter.talk(driver.poll(points, 0.0))
    assert [s.value for s in samples] == [10, 11, 12, None, 14, 15]
    assert samples[3].quality == "bad:exception-2"
    assert driver.holes == [["holding", 3, 1]]
    meter.asked.clear()
    assert len(meter.talk(driver.poll(points, 1.0))) == 6
    assert meter.asked == [(3, 0, 3), (3, 3, 1), (3, 4, 2)]
    meter.words[3] = 13
    assert [s.value for s in meter.talk(driver.poll(points, 2.0))] == [10, 11, 12, 13, 14, 15]
    assert driver.holes == []
    meter.asked.clear()
    meter.talk(driver.poll(points, 3.0))
    assert meter.asked == [(3, 0, 6)]


def test_a_device_that_takes_fewer_registers_is_asked_for_fewer(device, words):
    meter = device(1, {at: at for at in range(40)})
    meter.most = 10
    driver = Modbus(1)
    points = words(*range(40))
    assert [s.value for s in meter.talk(driver.poll(points, 0.0))] == list(range(40))
    meter.asked.clear()
    meter.talk(driver.poll(points, 1.0))
    assert meter.asked == [(3, 0, 10), (3, 10, 10), (3, 20, 10), (3, 30, 10)]


def test_values_that_share_registers_are_split_without_a_border(device, point):
    meter = device(1, {0: 1, 1: 2, 2: 3})
    meter.most = 2
    driver = Modbus(1)
    points = [point("holding", 0, "u32"), point("holding", 1, "u32")]
    assert [s.value for s in meter.talk(driver.poll(points, 0.0))] == [65538, 131075]
    assert driver.holes == []


@given(
    st.sets(st.integers(0, 60), min_size=1, max_size=30),
    st.sets(st.integers(0, 60), max_size=12),
    st.integers(0, 10),
)
def test_whatever_is_missing_what_is_there_is_read(device, wanted, missing, bridge):
    meter = device(1, {at: 1000 + at for at in range(61) if at not in missing})
    points = [Point(f"p{at}", Register("holding", at)) for at in sorted(wanted)]
    driver = Modbus(1, bridge=bridge)
    expected = [
        Sample(f"p{at}", None, "bad:exception-2") if at in missing else Sample(f"p{at}", 1000 + at)
        for at in sorted(wanted)
    ]
    for _ in range(3):
        meter.asked.clear()
        assert sorted(meter.talk(driver.poll(points, 0.0))) == sorted(expected)
    for _, first, count in meter.asked:  # by now it has learned: only what is missing itself is still refused
        assert count == 1 or not missing & set(range(first, first + count))


@pytest.mark.parametrize("code", [10, 11])
def test_a_gateway_says_that_the_device_is_silent(converse, rtu, words, code):
    driver = Modbus(1)
    with pytest.raises(NoReply, match="gateway") as error:
        converse(driver.poll(words(0, 1), 0.0), [(rtu(1, "03 0000 0002"), rtu(1, bytes((0x83, code))))])
    assert error.value.quality == f"bad:exception-{code}"
    assert driver.holes == []


@pytest.mark.parametrize("code", [4, 5, 6])
def test_a_device_that_cannot_now_is_asked_again_at_the_next_period(converse, rtu, words, code):
    driver = Modbus(1)
    step = (rtu(1, "03 0000 0001"), rtu(1, bytes((0x83, code))))
    for now in range(0, 1000, 10):
        assert converse(driver.poll(words(0), now), [step]) == [Sample("holding_0", None, f"bad:exception-{code}")]


@pytest.mark.parametrize("code", [1, 2, 3])
def test_whatever_code_a_device_has_for_what_it_does_not_have(device, words, code):
    meter = device(1, {0: 10, 2: 12})
    meter.absent = code
    expected = ["good", f"bad:exception-{code}", "good"]
    assert [s.quality for s in meter.talk(Modbus(1).poll(words(0, 1, 2), 0.0))] == expected


@given(st.data())
def test_refusals_that_come_and_go_cost_only_what_is_refused(device, data):
    """At every poll each point gets what a request of its own would get, whatever was refused before."""
    codes = st.sampled_from([1, 2, 3])
    meter = device(1, {})
    points = [
        Point(f"p{at}", Register("holding", at)) for at in sorted(data.draw(st.sets(st.integers(0, 30), min_size=1)))
    ]
    driver = Modbus(1, bridge=data.draw(st.integers(0, 6)))
    answered = set()
    now = 0.0
    for _ in range(data.draw(st.integers(1, 8))):
        missing = data.draw(st.sets(st.integers(0, 30), max_size=8))
        meter.absent, meter.words = data.draw(codes), {at: 1000 + at for at in range(31) if at not in missing}
        samples = [s for group in driver.plan(points) for s in meter.talk(driver.poll(group, now))]
        names = {sample.point for sample in samples}
        samples += meter.talk(driver.poll([point for point in points if point.name not in names], now))
        assert sorted(s.point for s in samples) == sorted(point.name for point in points)
        for sample in samples:
            at = int(sample.point[1:])
            if at in missing:
                assert sample.quality.startswith("bad:exception-")
            elif sample.point in answered or now < 60:
                assert sample == Sample(sample.point, 1000 + at)
        answered |= {sample.point for sample in samples if sample.quality == "good"}
        now += data.draw(st.sampled_from([1.0, 30.0, 61.0, 4000.0]))
