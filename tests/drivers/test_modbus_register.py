from __future__ import annotations

import pytest

from drivers.base import Point
from drivers.modbus.register import Register, register_of


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"table": "hold", "at": 0}, "table 'hold' is unknown: use coil"),
        ({"table": "holding", "at": -1}, "outside 0..65535"),
        ({"table": "holding", "at": 65535, "type": "u32"}, "outside 0..65535"),
        ({"table": "coil", "at": 65536}, "outside 0..65535"),
        ({"table": "coil", "at": 0, "type": "u16"}, "a coil is one bit"),
        ({"table": "discrete", "at": 0, "bit": 3}, "a discrete is one bit"),
        ({"table": "coil", "at": 0, "order": "AB"}, "a coil is one bit"),
        ({"table": "holding", "at": 0, "type": "float"}, "type 'float' is unknown: use bit"),
        ({"table": "holding", "at": 0, "type": "string"}, "needs length = 1..125"),
        ({"table": "holding", "at": 0, "type": "string", "length": 126}, "needs length = 1..125"),
        ({"table": "holding", "at": 0, "type": "bcd", "length": 9}, "needs length = 1..8"),
        ({"table": "holding", "at": 0, "type": "u32", "length": 2}, "leave out length"),
        ({"table": "holding", "at": 0, "type": "bit"}, "needs bit = 0..15"),
        ({"table": "holding", "at": 0, "type": "bit", "bit": 16}, "needs bit = 0..15"),
        ({"table": "holding", "at": 0, "type": "bits", "bit": 3}, "needs bit = [first, how many]"),
        ({"table": "holding", "at": 0, "type": "bits", "bit": (9, 8)}, "needs bit = [first, how many]"),
        ({"table": "holding", "at": 0, "type": "bits", "bit": (0, 0)}, "needs bit = [first, how many]"),
        ({"table": "holding", "at": 0, "type": "u16", "bit": 3}, "takes no bit"),
        ({"table": "holding", "at": 0, "type": "u16", "order": "ABCD"}, "does not fit type u16: use AB, BA"),
        ({"table": "holding", "at": 0, "type": "u32", "order": "BA"}, "use ABCD, CDAB, BADC, DCBA"),
        ({"table": "holding", "at": 0, "type": "u32", "order": "cdab"}, "does not fit type u32"),
        ({"table": "holding", "at": 0, "type": "string", "length": 2, "order": "ABCD"}, "use AB, BA"),
    ],
)
def test_an_address_that_makes_no_sense_is_refused_with_the_way_out(facts, words):
    with pytest.raises(ValueError) as error:
        Register(**facts)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("register", "count", "field"),
    [
        (Register("coil", 7), 1, None),
        (Register("holding", 7), 1, None),
        (Register("holding", 7, "u32", "CDAB"), 2, None),
        (Register("input", 7, "f64", "CDAB"), 4, None),
        (Register("input", 7, "u64", "GHEFCDAB"), 4, None),
        (Register("input", 7, "bit", "BA", bit=0), 1, (0, 1)),
        (Register("input", 7, "bits", bit=(1, 3)), 1, (1, 3)),
        (Register("input", 7, "u8hi"), 1, (8, 8)),
        (Register("input", 7, "u8lo"), 1, (0, 8)),
        (Register("input", 7, "string", "BA", length=8), 8, None),
        (Register("input", 7, "bcd", "CDAB", length=3), 3, None),
        (Register("input", 65535), 1, None),
    ],
)
def test_a_register_knows_its_extent(register, count, field):
    assert (register.count, register.end, register.field) == (count, register.at + count, field)


def test_a_type_left_out_is_a_bit_or_a_word():
    assert (Register("coil", 0).type, Register("discrete", 0).type, Register("input", 0).type) == ("bit", "bit", "u16")
    assert Register("coil", 0) == Register("coil", 0, "bit")


def test_a_point_of_another_driver_is_refused():
    with pytest.raises(TypeError, match="point p has no Modbus address"):
        register_of(Point("p", where=None))
