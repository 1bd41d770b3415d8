"""Refused ranges, bad frames, silence and late replies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.base import BadFrame, NoReply, Point, Sample
from drivers.modbus.driver import LATE, Modbus
from drivers.modbus.register import Register


def test_a_bad_frame_is_asked_for_once_more(converse, rtu, words):
    ask, answer = rtu(1, "03 0000 0001"), rtu(1, "03 02 0007")
    driver = Modbus(1)
    assert converse(driver.poll(words(0), 0.0), [(ask, BadFrame()), (ask, answer)]) == [Sample("holding_0", 7)]
    with pytest.raises(BadFrame):
        converse(driver.poll(words(0), 1.0), [(ask, BadFrame()), (ask, BadFrame())])


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


def test_after_silence_something_of_another_length_is_asked_first(converse, rtu, words):
    driver = Modbus(1)
    first, second = words(0, 1), words(8, 9)
    late = rtu(1, "03 04 0001 0002")
    with pytest.raises(NoReply):
        converse(driver.poll(first, 0.0), [(rtu(1, "03 0000 0002"), NoReply())])
    script = [
        (rtu(1, "03 0008 0001"), late + rtu(1, "03 02 0008")),
        (rtu(1, "03 0008 0002"), rtu(1, "03 04 0008 0009")),
    ]
    assert [s.value for s in converse(driver.poll(second, 1.5), script)] == [8, 9]
    assert [s.value for s in converse(driver.poll(first, 2.0), [(rtu(1, "03 0000 0002"), late)])] == [1, 2]


def test_a_request_of_another_length_needs_no_such_care(converse, rtu, words):
    driver = Modbus(1)
    with pytest.raises(NoReply):
        converse(driver.poll(words(0, 1), 0.0), [(rtu(1, "03 0000 0002"), NoReply())])
    assert converse(driver.poll(words(0), 1.0), [(rtu(1, "03 0000 0001"), rtu(1, "03 02 0007"))])[0].value == 7


def test_one_point_alone_is_told_apart_by_asking_for_a_little_more(converse, rtu, point, words):
    driver = Modbus(1)
    with pytest.raises(NoReply):
        converse(driver.poll(words(0), 0.0), [(rtu(1, "03 0000 0001"), NoReply())])
    script = [(rtu(1, "03 0000 0002"), rtu(1, "83 02")), (rtu(1, "03 0000 0001"), rtu(1, "03 02 0007"))]
    assert converse(driver.poll(words(0), 1.0), script)[0].value == 7
    with pytest.raises(NoReply):
        converse(driver.poll([point("coil", 0)], 0.0), [(rtu(1, "01 0000 0001"), NoReply())])
    script = [(rtu(1, "01 0000 0009"), rtu(1, "01 02 0100")), (rtu(1, "01 0000 0001"), rtu(1, "01 01 01"))]
    assert converse(driver.poll([point("coil", 0)], 1.0), script)[0].value is True


def test_late_replies_are_not_expected_for_ever(converse, rtu, words):
    driver = Modbus(1)
    ask = rtu(1, "03 0000 0001")
    with pytest.raises(NoReply):
        converse(driver.poll(words(0), 0.0), [(ask, NoReply())])
    assert converse(driver.poll(words(0), LATE), [(ask, rtu(1, "03 02 0007"))])[0].value == 7


@pytest.mark.parametrize(
    "options",
    [{"single": True}, {"max_registers": 1}, {"forbidden": [("holding", 1, 1)]}, {"holes": [("holding", 1, 1)]}],
)
def test_a_device_of_one_length_has_to_say_it_twice(converse, rtu, words, options):
    driver = Modbus(1, **options)
    ask = rtu(1, "03 0000 0001")
    seven, eight = rtu(1, "03 02 0007"), rtu(1, "03 02 0008")
    with pytest.raises(NoReply):
        converse(driver.poll(words(0), 0.0), [(ask, NoReply())])
    with pytest.raises(BadFrame, match="one may be late"):
        converse(driver.poll(words(0), 1.0), [(ask, seven), (ask, eight)])
    assert converse(driver.poll(words(0), 2.0), [(ask, eight), (ask, eight)])[0].value == 8
    assert converse(driver.poll(words(0), 3.0), [(ask, seven)])[0].value == 7


def test_when_every_length_is_outstanding_the_answer_has_to_come_twice(converse, rtu, point):
    driver = Modbus(1)
    both = [point("holding", 0), point("holding", 0, "u32", name="same_start")]
    one, two, three = (rtu(1, f"03 0000 000{n}") for n in (1, 2, 3))
    for ask in (two, one, three):
        with pytest.raises(NoReply):
            converse(driver.poll(both, 0.0), [(ask, NoReply())])
    answer = rtu(1, "03 04 0001 0002")
    assert len(converse(driver.poll(both, 1.0), [(two, answer), (two, answer)])) == 2


def test_the_end_of_the_address_space_is_not_passed(converse, rtu, words):
    driver = Modbus(1)
    ask = rtu(1, "03 FFFF 0001")
    with pytest.raises(NoReply):
        converse(driver.poll(words(65535), 0.0), [(ask, NoReply())])
    assert converse(driver.poll(words(65535), 1.0), [(ask, rtu(1, "03 02 0007"))] * 2)[0].value == 7


def test_tcp_tells_late_replies_by_their_number(point):
    driver = Modbus(1, "tcp")
    points = (point("holding", 0),)
    silent = driver.poll(points, 0.0)
    next(silent)
    with pytest.raises(NoReply):
        silent.throw(NoReply())
    assert next(driver.poll(points, 1.0)).label.endswith("(1 register)")
