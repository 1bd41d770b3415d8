"""The numbers against a plain set."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.ioc.numbers import Numbers


def spread(ranges: Any) -> list[int]:
    return [n for first, last in ranges for n in range(first, last + 1)]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 60), st.integers(0, 9))), st.integers(1, 70))
def test_numbers_are_a_set(steps: list[tuple[bool, int, int]], somewhere: int) -> None:
    numbers, model = Numbers(), set[int]()
    for add, first, more in steps:
        here = set(range(first, first + more + 1))
        if add:
            numbers.add(first, first + more)
            model |= here
        else:
            numbers.remove(first, first + more)
            model -= here
        assert spread(numbers) == sorted(model)
        assert (bool(numbers), numbers.highest) == (bool(model), max(model, default=0))
        assert all(b + 1 < c for (_, b), (c, _) in zip(list(numbers), list(numbers)[1:], strict=False))
        assert [n for n in range(1, 71) if n in numbers] == sorted(model)
    beyond = range(somewhere, somewhere + 8)
    assert spread(numbers.overlap(somewhere, somewhere + 7)) == [n for n in beyond if n in model]
    assert spread(numbers.gaps(somewhere + 7, somewhere)) == [n for n in beyond if n not in model]
    assert spread(numbers.gaps(50)) == [n for n in range(1, 51) if n not in model]
    assert numbers.reaches(somewhere) is all(n in model for n in range(1, somewhere + 1))


def test_a_range_without_end_costs_nothing() -> None:
    numbers = Numbers([(5, 2**62)])
    numbers.remove(100)
    assert list(numbers) == [(5, 99), (101, 2**62)]
    assert numbers.gaps(2**62) == ((1, 4), (100, 100))
    assert Numbers().reaches(0)
    numbers.add(2)
    numbers.remove(2)
    assert 2 not in numbers
