"""Writes, and the broadcast address."""

from __future__ import annotations

import pytest

from drivers.base import BadFrame, NoReply, Refused, Sample
from drivers.modbus.adu import FRAMINGS
from drivers.modbus.driver import Modbus


def test_writes_reach_the_device(device, point):
    plc = device(1, dict.fromkeys(range(20), 0), dict.fromkeys(range(20), False))
    driver = Modbus(1)
    assert plc.talk(driver.write(point("coil", 3), True)) == [Sample("coil_3", True)]
    assert plc.talk(driver.write(point("holding", 1, scale=0.1, decimals=1), 23.1)) == [Sample("holding_1", 23.1)]
    assert plc.talk(driver.write(point("holding", 2, "f32", order="CDAB"), 230.2)) == [Sample("holding_2", 230.2)]
    assert plc.talk(driver.write(point("holding", 4, "string", length=2), "Tư")) == [Sample("holding_4", "Tư")]
    assert plc.talk(driver.write(point("holding", 6, labels={2: "mở"}), "mở")) == [Sample("holding_6", "mở")]
    assert plc.bits[3]
    assert [plc.words[at] for at in range(1, 7)] == [231, 0x3333, 0x4366, 0x54C6, 0xB000, 2]
    assert [function for function, _, _ in plc.asked] == [5, 6, 16, 16, 6]


def test_a_part_of_a_register_is_written_without_touching_the_rest(device, point):
    plc = device(1, {7: 0xFF0F})
    conversation = Modbus(1).write(point("holding", 7, "bits", bit=(4, 4)), 9)
    step = next(conversation)
    assert step.hold
    step = conversation.send(plc.answer(step.request))
    assert not step.hold
    with pytest.raises(StopIteration) as end:
        conversation.send(plc.answer(step.request))
    assert end.value.value == [Sample("holding_7", 9)]
    assert plc.words[7] == 0xFF9F


def test_a_device_without_the_single_write_gets_the_multiple_one(device, point):
    plc = device(1, {0: 0}, {0: True})
    plc.unknown = {5, 6}
    plc.talk(Modbus(1).write(point("coil", 0), False))
    plc.talk(Modbus(1).write(point("holding", 0), 7))
    assert (plc.bits[0], plc.words[0]) == (False, 7)
    assert [function for function, _, _ in plc.asked] == [5, 15, 6, 16]


def test_a_refused_write_says_why(device, point):
    plc = device(1)
    for facts in (("holding", 9), ("holding", 9, "u32")):
        with pytest.raises(Refused, match="refused with exception 2, illegal data address") as error:
            plc.talk(Modbus(1).write(point(*facts), 1))
        assert error.value.code == 2
    with pytest.raises(Refused, match="FC3 holding 9"):
        plc.talk(Modbus(1).write(point("holding", 9, "bit", bit=0), 1))
    plc.unknown = {5, 15}
    with pytest.raises(Refused, match="illegal function"):
        plc.talk(Modbus(1).write(point("coil", 9), 1))


def test_a_write_is_never_repeated(converse, rtu, point):
    frame = rtu(1, "06 0000 0007")
    for error in (BadFrame, NoReply):
        with pytest.raises(error):
            converse(Modbus(1).write(point("holding", 0), 7), [(frame, error())])


def test_a_write_over_tcp(point):
    conversation = Modbus(1, "tcp").write(point("holding", 0), 7)
    step = next(conversation)
    assert step.find(step.request) is not None
    with pytest.raises(StopIteration):
        conversation.send(step.request)


@pytest.mark.parametrize("table", ["input", "discrete"])
def test_what_can_only_be_read_is_not_written(point, table):
    with pytest.raises(ValueError, match=f"a {table} cannot be written"):
        Modbus(1).write(point(table, 0), 1)


def test_a_value_that_does_not_fit_never_reaches_the_wire(point):
    with pytest.raises(ValueError, match="does not fit type u16"):
        Modbus(1).write(point("holding", 0), 70000)


@pytest.mark.parametrize("framing", ["rtu", "ascii"])
def test_a_broadcast_write_has_no_reply(point, framing):
    conversation = Modbus(0, framing).write(point("coil", 3), True)
    step = next(conversation)
    assert (step.find, step.reply_size, step.min_wait) == (None, 0, 0.1)  # Modbus over Serial Line 1.02, 2.4.1
    assert FRAMINGS[framing].unwrap(step.request)[0] == 5
    with pytest.raises(StopIteration) as end:
        conversation.send(b"")
    assert end.value.value == [Sample("coil_3", True)]


def test_nothing_is_read_from_the_broadcast_address(point):
    with pytest.raises(ValueError, match="unit 0 is the broadcast address"):
        next(Modbus(0).poll([point("coil", 3)], 0.0))
    with pytest.raises(ValueError, match="nothing answers"):
        Modbus(0).read_raw("coil", 3, 1)
    with pytest.raises(ValueError, match="nothing answers"):
        next(Modbus(0).identify())
    with pytest.raises(ValueError, match="cannot be broadcast"):
        Modbus(0).write(point("holding", 3, "bit", bit=1), 1)


def test_unit_0_is_a_device_over_tcp(point):
    assert next(Modbus(0, "tcp").poll([point("coil", 3)], 0.0)).find is not None
