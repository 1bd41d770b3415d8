"""What stood among bytes that were no answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.base import (
    CLIPPED,
    CRC,
    NOISE,
    WRONG_FUNCTION,
    WRONG_LENGTH,
    WRONG_UNIT,
    BadFrame,
    Explains,
    Finding,
    Identifies,
    Learns,
    Writes,
)
from drivers.modbus.adu import FRAMINGS
from drivers.modbus.driver import Modbus

DATA = bytes(range(0x30, 0x44))
GOOD = b"\x03\x14" + DATA
SERIAL = ["rtu", "ascii"]


@pytest.fixture(params=SERIAL)
def line(request, words):
    """(explain, wrap) of unit 5, asked for ten registers."""
    driver = Modbus(5, request.param)
    exchange = next(driver.poll(words(*range(10)), 0.0))
    return lambda heard: driver.explain(exchange, heard), lambda unit, pdu: FRAMINGS[request.param].wrap(unit, 0, pdu)


def test_the_driver_has_the_abilities():
    for ability in (Explains, Learns, Writes, Identifies):
        assert isinstance(Modbus(5), ability)


def test_foreign_frames_have_names(line):
    explain, wrap = line
    assert explain(b"") == []
    assert explain(wrap(6, GOOD)) == [Finding(WRONG_UNIT, 6)]
    assert explain(wrap(6, b"\x83\x02")) == [Finding(WRONG_UNIT, 6)]
    assert explain(wrap(5, b"\x04\x14" + DATA)) == [Finding(WRONG_FUNCTION, 5)]
    assert explain(wrap(5, b"\x84\x02")) == [Finding(WRONG_FUNCTION, 5)]
    assert explain(wrap(5, b"\x03\x02\0\1")) == [Finding(WRONG_LENGTH, 5)]
    assert explain(wrap(5, GOOD)) == []
    assert explain(wrap(5, b"\x83\x02")) == []
    assert explain(wrap(6, b"\x18\0\x06\0\2\0\1\0\2")) == [Finding(WRONG_UNIT, 6)]
    assert explain(wrap(6, b"\x2b\x0e\1\1\0\0\1\0\2ab")) == [Finding(WRONG_UNIT, 6)]


def test_requests_of_another_master_are_foreign_frames(line):
    explain, wrap = line
    assert explain(wrap(6, b"\x03\0\x07\0\x01")) == [Finding(WRONG_UNIT, 6)]
    assert explain(wrap(6, b"\x10\0\1\0\2\4\0\1\0\2")) == [Finding(WRONG_UNIT, 6)]


def test_damage_is_told_from_noise(line):
    explain, wrap = line
    good = wrap(5, GOOD)
    assert explain(good[:-3] + bytes((good[-3] ^ 1,)) + good[-2:]) == [Finding(CRC)]
    refusal = wrap(5, b"\x83\x02")
    assert explain(refusal[:-3] + bytes((refusal[-3] ^ 1,)) + refusal[-2:]) == [Finding(CRC)]
    assert explain(b"\xff\xfe\xfd") == [Finding(NOISE)]
    assert explain(good[:20]) == [Finding(NOISE)]


@pytest.mark.parametrize("missing", [1, 2, 3])
@pytest.mark.parametrize("garbage", [b"", b"\xff", b"\0\xf8"])
def test_a_clipped_reply_is_known_by_its_rest(line, missing, garbage):
    explain, wrap = line
    noise = [Finding(NOISE)] if garbage else []
    assert explain(garbage + wrap(5, GOOD)[missing:]) == [*noise, Finding(CLIPPED, 5)]
    assert explain(wrap(6, GOOD)[missing:]) == [Finding(NOISE)]


def test_everything_in_a_row(line):
    explain, wrap = line
    heard = b"\xff\xff" + wrap(6, GOOD) + wrap(5, b"\x03\x02\0\1") + b"\0\0\0" + wrap(5, GOOD)[1:] + b"\xff"
    kinds = [NOISE, WRONG_UNIT, WRONG_LENGTH, NOISE, CLIPPED, NOISE]
    assert [finding.kind for finding in explain(heard)] == kinds


def test_a_write_confirmed_with_another_value_answers_another_request(rtu, point):
    driver = Modbus(5)
    exchange = next(driver.write(point("holding", 7), 3))
    assert driver.explain(exchange, rtu(5, "06 0007 0004")) == [Finding(WRONG_FUNCTION, 5)]
    assert driver.explain(exchange, exchange.request[2:]) == [Finding(CLIPPED, 5)]
    assert driver.explain(exchange, exchange.request[:-1] + b"?") == [Finding(CRC)]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_replies_that_tell_their_length(framing):
    driver = Modbus(5, framing)
    exchange = next(driver.fifo(0x04DE))
    wrap = FRAMINGS[framing].wrap
    good = b"\x18\0\x06\0\2\1\xb8\x12\x84"
    assert driver.explain(exchange, wrap(5, 1, good)) == []
    assert driver.explain(exchange, wrap(5, 1, b"\x03\x02\0\1")) == [Finding(WRONG_FUNCTION, 5)]
    if framing != "tcp":
        damaged = wrap(5, 1, good)[:-3] + b"7" + wrap(5, 1, good)[-2:]
        assert driver.explain(exchange, damaged) == [Finding(CRC)]
        assert driver.explain(exchange, wrap(5, 1, good)[1:]) == [Finding(CLIPPED, 5)]


def test_over_tcp_older_transactions_are_no_finding(words):
    driver = Modbus(5, "tcp")
    exchange = next(driver.poll(words(0), 0.0))
    wrap = FRAMINGS["tcp"].wrap
    number = int.from_bytes(exchange.request[:2], "big")
    assert driver.explain(exchange, wrap(5, number - 1, b"\x03\x02\0\1")) == []
    assert driver.explain(exchange, wrap(6, number, b"\x03\x02\0\1")) == [Finding(WRONG_UNIT, 6)]
    assert driver.explain(exchange, wrap(5, number, b"\x03\x04\0\1\0\2")) == [Finding(WRONG_LENGTH, 5)]
    assert driver.explain(exchange, b"\xff\xff" + wrap(5, number, b"\x04\x02\0\1")) == [
        Finding(NOISE),
        Finding(WRONG_FUNCTION, 5),
    ]
    assert driver.explain(exchange, b"\0\1\0\0") == [Finding(NOISE)]


@given(st.sampled_from(list(FRAMINGS)), st.binary(max_size=700))
def test_any_bytes_can_be_explained(framing, heard):
    driver = Modbus(5, framing)
    for talk in (driver.read_raw("holding", 0, 10), driver.fifo(1), driver.identify()):
        assert isinstance(driver.explain(next(talk), heard), list)


def test_a_range_that_the_technician_reads_is_guarded_like_any_other(rtu):
    talk = Modbus(5).read_raw("input", 0, 1)
    next(talk)
    assert talk.throw(BadFrame(heard=b"\xff")).request == rtu(5, "04 0000 0002")
