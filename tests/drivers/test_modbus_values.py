from __future__ import annotations

import math
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from drivers.base import Point
from drivers.modbus.register import Register
from drivers.modbus.values import decode, encode, merge, raw_of, reader, shortest

ORDERS_2 = ["", "ABCD", "CDAB", "BADC", "DCBA"]
ORDERS_4 = [*ORDERS_2, "ABCDEFGH", "GHEFCDAB", "BADCFEHG", "HGFEDCBA"]


def holding(type_, order="", **facts):
    return Register("holding", 0, type_, order, **facts)


@pytest.mark.parametrize(
    ("order", "wire"),
    [("ABCD", "43 65 80 21"), ("CDAB", "80 21 43 65"), ("BADC", "65 43 21 80"), ("DCBA", "21 80 65 43")],
)
def test_the_four_orders(order, wire):
    assert decode(holding("f32", order), bytes.fromhex(wire)) == 229.5005
    assert encode(holding("f32", order), 229.5005) == bytes.fromhex(wire)


def test_a_decimal_stays_what_the_device_meant():
    assert decode(holding("f32"), bytes.fromhex("43 66 33 33")) == 230.2
    assert decode(holding("f32"), bytes.fromhex("43 66 33 34")) == 230.20001


@pytest.mark.parametrize(
    ("register", "wire", "raw"),
    [
        (holding("u16"), "FF FE", 65534),
        (holding("u16", "BA"), "FE FF", 65534),
        (holding("s16"), "FF FE", -2),
        (holding("u32", "CDAB"), "00 02 00 01", 65538),
        (holding("s32"), "FF FF FF FF", -1),
        (holding("u64", "ABCDEFGH"), "01 02 03 04 05 06 07 08", 0x0102030405060708),
        (holding("u64", "GHEFCDAB"), "07 08 05 06 03 04 01 02", 0x0102030405060708),
        (holding("u64", "BADCFEHG"), "02 01 04 03 06 05 08 07", 0x0102030405060708),
        (holding("u64", "HGFEDCBA"), "08 07 06 05 04 03 02 01", 0x0102030405060708),
        (holding("u64", "CDAB"), "07 08 05 06 03 04 01 02", 0x0102030405060708),
        (holding("s64"), "FF FF FF FF FF FF FF FE", -2),
        (holding("f64"), "40 C8 1C D6 C8 B4 39 58", 12345.678),
        (holding("u8hi"), "12 34", 0x12),
        (holding("u8lo"), "12 34", 0x34),
        (holding("u8hi", "BA"), "12 34", 0x34),
        (holding("bit", bit=15), "80 00", True),
        (holding("bit", bit=0), "80 00", False),
        (holding("bit", "BA", bit=0), "01 00", True),
        (holding("bits", bit=(1, 3)), "00 0A", 5),
        (holding("string", length=3), "41 42 43 20 20 00", "ABC"),
        (holding("string", "BA", length=2), "42 41 00 43", "ABC"),
        (holding("string", length=5), "C4 90 E1 BB 93 6E 67 00 00 00", "Đồng"),
        (holding("bcd", length=1), "12 34", 1234),
        (holding("bcd", "CDAB", length=3), "19 20 11 22 17 01", 170111221920),
        (Register("coil", 3), "01", True),
        (Register("discrete", 3), "FE", False),
    ],
)
def test_known_bytes(register, wire, raw):
    value = decode(register, bytes.fromhex(wire))
    assert value == raw
    assert type(value) is type(raw)


@pytest.mark.parametrize(
    ("register", "wire"),
    [
        (holding("bcd", length=1), "12 3A"),
        (holding("string", length=1), "FF FE"),
        (holding("f32"), "7F 80 00 00"),
        (holding("f64"), "FF F0 00 00 00 00 00 00"),
    ],
)
def test_bytes_that_are_no_value(register, wire):
    assert decode(register, bytes.fromhex(wire)) is None


def test_nan_is_left_to_the_sentinel_rule():
    value = decode(holding("f32"), bytes.fromhex("7FC00000"))
    assert isinstance(value, float)
    assert math.isnan(value)


@given(st.data())
def test_every_number_type_and_order_round_trips(data):
    kind, size = data.draw(
        st.sampled_from(
            [("u16", 2), ("s16", 2), ("u32", 4), ("s32", 4), ("u64", 8), ("s64", 8), ("f32", 4), ("f64", 8)]
        )
    )
    register = holding(kind, data.draw(st.sampled_from({2: ["", "AB", "BA"], 4: ORDERS_2, 8: ORDERS_4}[size])))
    wire = data.draw(st.binary(min_size=size, max_size=size))
    raw = decode(register, wire)
    if raw is None or raw != raw:
        return
    assert encode(register, raw) == wire or raw == 0  # -0.0 becomes 0.0
    assert decode(register, encode(register, raw)) == raw


@given(st.sampled_from(["", "AB", "BA"]), st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20))
def test_text_round_trips(order, text):
    register = holding("string", order, length=40)
    assert decode(register, encode(register, text)) == text.rstrip()


@given(st.data(), st.integers(1, 8))
def test_bcd_round_trips(data, length):
    orders = ["", "AB", "BA", "ABCD", "CDAB", "BADC", "DCBA"]
    register = holding("bcd", data.draw(st.sampled_from(orders)), length=length)
    number = data.draw(st.integers(0, 10 ** (4 * length) - 1))
    assert decode(register, encode(register, number)) == number


@st.composite
def parts(draw):
    kind = draw(st.sampled_from(["bit", "bits", "u8hi", "u8lo"]))
    first = draw(st.integers(0, 15))
    bit = {"bit": first, "bits": (first, draw(st.integers(1, 16 - first)))}.get(kind)
    return holding(kind, draw(st.sampled_from(["", "AB", "BA"])), bit=bit)


@given(parts(), st.binary(min_size=2, max_size=2), st.data())
def test_a_part_of_a_register_is_changed_and_nothing_else(register, old, data):
    raw = data.draw(st.integers(0, (1 << register.field[1]) - 1))
    new = merge(register, old, raw)
    assert decode(register, new) == raw
    assert merge(register, new, decode(register, old)) == old


@given(st.integers(0, 2000), st.integers(0, 2000), st.binary(min_size=260, max_size=260))
def test_a_coil_is_found_in_a_block(first, at, block):
    place = min(at, 2000)
    register = Register("coil", first + place)
    assert reader(register, first, skip=2)(block) == bool(block[2 + place // 8] >> place % 8 & 1)


@given(st.integers(0, 100), parts(), st.binary(min_size=250, max_size=250))
def test_a_value_is_found_in_a_block(place, part, block):
    register = Register("holding", 1000 + place, part.type, part.order, part.bit)
    assert reader(register, 1000, skip=2)(block) == decode(register, block[2 + 2 * place : 4 + 2 * place])


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
@example(2.0**-10)
@example(2.0**-70)
@example(1.5 * 2.0**-66)
@example(2.0**60)
def test_shortest_is_the_same_float32(value):
    short = shortest(value)
    assert struct.pack("f", short) == struct.pack("f", value) or value == 0
    assert len(repr(short)) <= len(repr(value))


@given(st.integers(-999_999, 999_999), st.integers(0, 6))
def test_shortest_finds_the_decimal_that_was_meant(digits, decimals):
    meant = digits / 10**decimals
    assert shortest(struct.unpack("f", struct.pack("f", meant))[0]) == meant


@pytest.mark.parametrize(
    ("register", "raw", "words"),
    [
        (holding("u16"), 65536, "does not fit type u16"),
        (holding("u16"), -1, "does not fit type u16"),
        (holding("u16"), 1.5, "not a whole number"),
        (holding("u16"), "5", "not a whole number|is text"),
        (holding("f32"), 1e39, "does not fit type f32"),
        (holding("f32"), "x", "is text"),
        (holding("bits", bit=(1, 3)), 8, "does not fit the 3 bits"),
        (holding("bits", bit=(1, 3)), "x", "not a whole number"),
        (holding("bit", bit=3), 2, "neither on"),
        (holding("u8hi"), -1, "does not fit the 8 bits"),
        (holding("bcd", length=1), 10000, "does not fit 4 decimal digits"),
        (holding("bcd", length=1), -1, "does not fit 4 decimal digits"),
        (holding("string", length=1), "ABC", "takes 3 bytes, the registers hold 2"),
        (Register("coil", 0), 2, "neither on"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(register, raw, words):
    with pytest.raises(ValueError, match=words):
        encode(register, raw)


@pytest.mark.parametrize(
    ("register", "facts", "value", "raw"),
    [
        (holding("u16"), {}, 7, 7),
        (holding("u16"), {"scale": 0.1}, 23.1, 231),
        (holding("u16"), {"scale": 0.1, "offset": -40.0}, 0, 400),
        (holding("f32"), {"scale": 0.5}, 1.25, 2.5),
        (holding("u16"), {"labels": {1: "mở", 2: "đóng"}}, "đóng", 2),
        (holding("u16"), {"labels": {1: "mở"}, "scale": 3.0}, 1, 1),
        (holding("bit", bit=1), {}, True, 1),
        (holding("bit", bit=1), {"scale": -1.0, "offset": 1.0}, True, 0),
        (Register("coil", 0), {"scale": -1.0, "offset": 1.0}, False, 1),
        (holding("string", length=4), {}, "A1", "A1"),
    ],
)
def test_what_to_write_for_a_value(register, facts, value, raw):
    assert raw_of(Point("p", register, **facts), value) == raw


@pytest.mark.parametrize(
    ("facts", "value", "words"),
    [
        ({}, None, "no value to write"),
        ({}, "on", "'on' is not one of its numbers"),
        ({"labels": {1: "open"}}, "shut", "'shut' is not one of open"),
        ({"scale": 0.1}, 0.25, "steps of 0.1"),
        ({}, math.inf, "not a number"),
        ({}, math.nan, "not a number"),
    ],
)
def test_a_value_that_no_register_can_hold_is_refused(facts, value, words):
    with pytest.raises(ValueError, match=words):
        raw_of(Point("p", holding("u16"), **facts), value)
