"""Late replies: what was given up must never become another register's value."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.base import BadFrame, BusError, Exchange, Frame, NoReply, Point, Reject
from drivers.modbus.driver import Modbus
from drivers.modbus.late import LATE
from drivers.modbus.register import Register


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


def test_nobody_comes_between_the_steps_that_make_sure(words):
    driver = Modbus(1)
    talk = driver.poll(words(0), 0.0)
    assert not next(talk).hold
    step = talk.throw(BadFrame(heard=b"\xff"))
    assert step.label.endswith("(2 registers)")
    assert step.hold


def test_a_request_of_another_length_needs_no_such_care(converse, rtu, words):
    driver = Modbus(1)
    with pytest.raises(NoReply):
        converse(driver.poll(words(0, 1), 0.0), [(rtu(1, "03 0000 0002"), NoReply())])
    assert converse(driver.poll(words(0), 1.0), [(rtu(1, "03 0000 0001"), rtu(1, "03 02 0007"))])[0].value == 7


def test_one_point_alone_is_told_apart_by_asking_for_a_little_more(converse, rtu, point, words):
    driver = Modbus(1)
    with pytest.raises(NoReply):
        converse(driver.poll(words(0), 0.0), [(rtu(1, "03 0000 0001"), NoReply())])
    wider, ask = rtu(1, "03 0000 0002"), rtu(1, "03 0000 0001")
    script = [(wider, rtu(1, "83 02")), (wider, rtu(1, "83 02")), (ask, rtu(1, "03 02 0007"))]
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
    assert converse(driver.poll(words(0), 3.0), [(ask, seven), (ask, seven)])[0].value == 7  # its own may come late
    assert converse(driver.poll(words(0), LATE), [(ask, eight)])[0].value == 8


def test_when_every_length_is_outstanding_the_answer_has_to_come_twice(converse, rtu, point):
    driver = Modbus(1)
    both = [point("holding", 0), point("holding", 0, "u32", name="same_start")]
    one, two, three = (rtu(1, f"03 0000 000{n}") for n in (1, 2, 3))
    for ask in (two, one, three):
        with pytest.raises(NoReply):
            converse(driver.poll(both, 0.0), [(ask, NoReply())])
    answer = rtu(1, "03 04 0001 0002")
    assert len(converse(driver.poll(both, 1.0), [(two, answer)] * 4)) == 2


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


# Noise that was no reply ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heard", [b"", b"\xff", bytes(6), bytes(60), b"\x01\x03\x02\x00"])
def test_after_noise_the_reply_may_still_come(converse, rtu, words, heard):
    ask, wider, answer = rtu(1, "03 0000 0001"), rtu(1, "03 0000 0002"), rtu(1, "03 02 0007")
    script = [(ask, BadFrame(heard=heard)), (wider, answer + rtu(1, "03 04 0008 0009")), (ask, rtu(1, "03 02 0008"))]
    assert converse(Modbus(1).poll(words(0), 0.0), script)[0].value == 8


@pytest.mark.parametrize(
    "damage",
    [
        lambda frame: frame[:-3] + bytes((frame[-3] ^ 1,)) + frame[-2:],  # near its end
        lambda frame: bytes((frame[0] ^ 1,)) + frame[1:],  # the unit
        lambda frame: b"\0\0\0" + frame[:-3] + bytes((frame[-3] ^ 1,)) + frame[-2:],  # behind noise
        lambda frame: frame[1:],  # clipped
    ],
)
@pytest.mark.parametrize("framing", ["rtu", "ascii"])
def test_a_reply_that_came_damaged_is_not_waited_for(point, damage, framing):
    driver = Modbus(1, framing)
    points = [point("holding", 0)]
    talk = driver.poll(points, 0.0)
    first = next(talk)
    reply = driver.unit._wire.wrap(1, 0, b"\x03\x02\x00\x07")
    again = talk.throw(BadFrame(heard=damage(reply)))
    assert again.request == first.request
    with pytest.raises(StopIteration):
        talk.send(reply)


def test_as_many_bytes_as_the_reply_has_need_not_be_it(rtu, words):
    driver = Modbus(1)
    talk = driver.poll(words(0), 0.0)
    first = next(talk)
    noise_and_a_broken_refusal_of_unit_9 = b"\xa0\x17" + rtu(9, "83 02")[:-1] + b"\x00"
    assert len(noise_and_a_broken_refusal_of_unit_9) == first.reply_size
    asked_first = talk.throw(BadFrame(heard=noise_and_a_broken_refusal_of_unit_9))
    assert (
        asked_first.reply_size != first.reply_size
    )  # the reply may still come: something of another length goes first


# Refusals while a reply is owed ---------------------------------------------------------------------------------------


def test_a_late_refusal_is_not_the_answer(converse, rtu, words):
    driver = Modbus(1)
    with pytest.raises(NoReply):
        converse(driver.poll(words(0, 1), 0.0), [(rtu(1, "03 0000 0002"), NoReply())])
    ask = rtu(1, "03 0008 0001")
    script = [(ask, rtu(1, "83 02")), (ask, rtu(1, "03 02 0008"))]
    assert converse(driver.poll(words(8), 1.0), script)[0].value == 8
    assert driver.holes == []
    # The second question's own answer is still to come: something of another length goes first.
    script = [(rtu(1, "03 0009 0002"), rtu(1, "03 04 0009 000A")), (rtu(1, "03 0009 0001"), rtu(1, "03 02 0009"))]
    assert converse(driver.poll(words(9), 1.5), script)[0].value == 9


def test_a_refusal_that_is_repeated_counts(converse, rtu, words):
    driver = Modbus(1)
    with pytest.raises(NoReply):
        converse(driver.poll(words(0, 1), 0.0), [(rtu(1, "03 0000 0002"), NoReply())])
    ask = rtu(1, "03 0008 0001")
    assert converse(driver.poll(words(8), 1.0), [(ask, rtu(1, "83 02"))] * 2)[0].quality == "bad:exception-2"
    assert driver.holes == [["holding", 8, 1]]


# What reading clears --------------------------------------------------------------------------------------------------


def counter(at, **facts):
    return Point(f"clears_{at}", Register("holding", at), read_clears=True, **facts)


def test_what_reading_clears_is_alone(words):
    driver = Modbus(1, bridge=9)
    points = [*words(0, 1, 3, 4), counter(2)]
    assert [[p.where.at for p in group] for group in driver.plan(points)] == [[0, 1], [2], [3, 4]]
    assert len(driver.plan(words(1, 3))) == 2  # also when it is not due itself


def test_values_of_one_register_that_reading_clears_share_the_reading(device):
    both = [replace(counter(2), name=f"bit_{bit}", where=Register("holding", 2, "bit", bit=bit)) for bit in (0, 1)]
    meter = device(1, {2: 2})
    assert [s.value for s in meter.talk(Modbus(1).poll(both, 0.0))] == [False, True]
    assert meter.asked == [(3, 2, 1)]
    del meter.words[2]
    meter.asked.clear()
    driver = Modbus(1)
    assert {s.quality for s in meter.talk(driver.poll(both, 0.0))} == {"bad:exception-2"}
    assert meter.asked == [(3, 2, 1)]
    meter.words[2] = 1
    assert [s.value for s in meter.talk(driver.poll(both, 1.0))] == [True, False]
    assert driver.holes == []


def test_what_reading_clears_is_never_asked_twice_for_one_reading(converse, rtu):
    driver = Modbus(1)
    ask = rtu(1, "03 0002 0001")
    for error in (BadFrame(heard=rtu(1, "03 02 0006")[:-1] + b"?"), BadFrame(heard=b"\xff")):
        with pytest.raises(BadFrame):
            converse(driver.poll([counter(2)], 0.0), [(ask, error)])
    with pytest.raises(NoReply, match="not asked"):
        converse(driver.poll([counter(2)], 1.0), [])
    assert converse(driver.poll([counter(2)], LATE), [(ask, rtu(1, "03 02 0005"))])[0].value == 5


def test_before_what_reading_clears_another_read_makes_sure(converse, rtu, words):
    driver = Modbus(1)
    plain = words(10, 11)
    driver.plan([counter(2), *plain])
    with pytest.raises(NoReply):
        converse(driver.poll([counter(2)], 0.0), [(rtu(1, "03 0002 0001"), NoReply())])
    script = [
        (rtu(1, "03 000A 0002"), rtu(1, "03 02 0004") + rtu(1, "03 04 0001 0002")),
        (rtu(1, "03 0002 0001"), rtu(1, "03 02 0005")),
    ]
    assert converse(driver.poll([counter(2)], 1.0), script)[0].value == 5


def test_a_refusal_makes_not_sure_enough_for_what_reading_clears(converse, rtu, words):
    driver = Modbus(1)
    driver.plan([counter(2), *words(10, 11)])
    with pytest.raises(NoReply):
        converse(driver.poll([counter(2)], 0.0), [(rtu(1, "03 0002 0001"), NoReply())])
    with pytest.raises(NoReply, match="not asked"):
        converse(driver.poll([counter(2)], 1.0), [(rtu(1, "03 000A 0002"), rtu(1, "83 02"))] * 2)


def test_a_little_more_never_reads_what_reading_clears(converse, rtu, words):
    driver = Modbus(1)
    driver.plan([*words(1), counter(2)])
    ask = rtu(1, "03 0001 0001")
    with pytest.raises(NoReply):
        converse(driver.poll(words(1), 0.0), [(ask, NoReply())])
    assert converse(driver.poll(words(1), 1.0), [(ask, rtu(1, "03 02 0007"))] * 2)[0].value == 7


# The rule -------------------------------------------------------------------------------------------------------------


class Tardy:
    """A line to a device that answers in order, but not always while it is waited for."""

    def __init__(self, device, draw):
        self.device = device
        self.draw = draw
        self.coming: list[bytes] = []

    def exchange(self, step: Exchange) -> bytes | BusError:
        if not self.draw(st.integers(0, 9)):
            return NoReply()  # the request was lost
        self.coming.append(self.device.answer(step.request))
        arrive = self.draw(st.sampled_from([len(self.coming)] * 3 + [0, 1]))
        wire, self.coming = self.coming[:arrive], self.coming[arrive:]
        if not wire:
            return self.draw(st.sampled_from([NoReply(), BadFrame(heard=b"\xff")]))
        buffer = bytearray(b"".join(wire))
        while isinstance(found := step.find(buffer), Reject):
            del buffer[: found.size]
        return bytes(buffer[found.start : found.end]) if isinstance(found, Frame) else NoReply()

    def hold(self, talk):
        answer: bytes | BusError | None = None
        try:
            while True:
                step = talk.send(answer) if not isinstance(answer, BusError) else talk.throw(answer)
                answer = self.exchange(step)
        except StopIteration as end:
            return end.value
        except BusError:
            return []


@settings(max_examples=300)
@given(st.data(), st.sampled_from([{}, {"single": True}, {"max_registers": 1}, {"max_registers": 2}]))
def test_no_late_reply_ever_becomes_the_value_of_another_register(device, data, options):
    meter = device(1, {at: 1000 + at for at in range(20) if at not in (3, 9)})
    line = Tardy(meter, data.draw)
    driver = Modbus(1, **options)
    points = [Point(f"p{at}", Register("holding", at)) for at in range(12)] + [counter(15)]
    points += [Point("wide", Register("holding", 16, "u32"))]
    for now in range(data.draw(st.integers(2, 12))):
        chosen = data.draw(st.lists(st.sampled_from(points), min_size=1, max_size=6, unique_by=id))
        for sample in line.hold(driver.poll(chosen, now * 0.5)):
            at = next(point.where.at for point in points if point.name == sample.point)
            if sample.quality == "good":
                assert sample.value == (1016 << 16 | 1017 if at == 16 else 1000 + at)
