"""Values in registers: the worked bytes of every order, and that nothing is lost on the way."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.simulator.registers import get, put, shortest, value

ORDERS = {
    ("u32", ""): "01020304",
    ("u32", "ABCD"): "01020304",
    ("u32", "CDAB"): "03040102",
    ("u32", "BADC"): "02010403",
    ("u32", "DCBA"): "04030201",
    ("u64", "ABCDEFGH"): "0102030405060708",
    ("u64", "GHEFCDAB"): "0708050603040102",
    ("u64", "BADCFEHG"): "0201040306050807",
    ("u64", "HGFEDCBA"): "0807060504030201",
    ("u64", "CDAB"): "0708050603040102",
    ("u64", "DCBA"): "0807060504030201",
    ("u16", "AB"): "0102",
    ("u16", "BA"): "0201",
}


@pytest.mark.parametrize(("kind", "order"), ORDERS)
def test_an_order_names_the_bytes_on_the_wire(point, kind, order):
    at = point("x", "holding", 0, kind, order=order).where
    wire = bytes.fromhex(ORDERS[kind, order])
    block = bytearray(len(wire))
    put(at, int.from_bytes(bytes(range(1, len(wire) + 1)), "big"), block, 0)
    assert bytes(block) == wire


def test_230_2_as_float_is_what_a_meter_sends(point):
    at = point("x", "holding", 0, "f32").where
    block = bytearray(4)
    put(at, 230.2, block, 0)
    assert block.hex() == "43663333"
    assert get(at, bytes(block), 0) == 230.2


def test_text_and_bcd_as_devices_write_them(point):
    block = bytearray(6)
    put(point("x", "holding", 0, "string", length=3).where, "AB12", block, 0)
    assert bytes(block) == b"AB12\0\0"
    put(point("x", "holding", 0, "string", length=3, order="BA").where, "AB12", block, 0)
    assert bytes(block) == b"BA21\0\0"
    put(point("x", "holding", 0, "bcd", length=2).where, 123456, block, 0)
    assert block.hex()[:8] == "00123456"
    assert get(point("x", "holding", 0, "bcd").where, b"\x12\x3a", 0) is None


def test_parts_of_one_register_leave_each_other_alone(point):
    high, low = point("h", "holding", 0, "u8hi").where, point("l", "holding", 0, "u8lo").where
    some, one = point("b", "holding", 0, "bits", bit=(4, 3)).where, point("o", "holding", 0, "bit", bit=9).where
    block = bytearray(2)
    put(high, 0xA5, block, 0)
    put(low, 0xFF, block, 0)
    put(some, 2, block, 0)
    put(one, True, block, 0)
    assert block.hex() == "a7af"
    assert get(some, bytes(block), 0) == 2
    assert get(one, bytes(block), 0) is True
    assert get(high, bytes(block), 0) == 0xA7


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_the_shortest_decimal_is_the_same_float32(number):
    short = shortest(number)
    assert struct.pack(">f", short) == struct.pack(">f", number)
    assert len(repr(short)) <= max(len(repr(number)), 1)


@given(st.integers(-(2**63), 2**63 - 1), st.sampled_from(["", "GHEFCDAB", "BADCFEHG", "HGFEDCBA"]))
def test_64_bit_totals_survive(number, order):
    from types import SimpleNamespace

    at = SimpleNamespace(table="input", at=0, type="s64", order=order, bit=None, count=4)
    block = bytearray(8)
    put(at, number, block, 0)
    assert get(at, bytes(block), 0) == number


def test_the_truth_is_what_a_correct_driver_says(point):
    assert value(point("v", "input", 0, scale=0.1, decimals=1), 2302) == 230.2
    assert value(point("v", "input", 0, sentinels=frozenset({65535})), 65535) is None
    assert value(point("v", "input", 0, "f32"), float("nan")) is None
    assert value(point("s", "input", 0, labels={1: "bật"}), 1) == "bật"
    assert value(point("s", "input", 0, labels={1: "bật"}), 7) == 7
    assert value(point("t", "input", 0, "s16", offset=-40.0), 65) == 25.0
