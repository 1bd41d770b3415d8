"""Sets of integers as ranges: they behave as sets do."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.spans import Spans

number = st.integers(0, 40)
span = st.tuples(number, number).map(lambda pair: (min(pair), max(pair)))
steps = st.lists(st.tuples(st.sampled_from(["add", "remove"]), span))


def numbers(spans):
    return {n for first, last in spans for n in range(first, last + 1)}


@given(steps)
def test_it_behaves_as_a_set(steps):
    spans, model = Spans(), set()
    for what, (first, last) in steps:
        piece = set(range(first, last + 1))
        assert numbers(spans.overlap(first, last)) == model & piece
        if what == "add":
            spans.add(first, last)
            model |= piece
        else:
            assert numbers(spans.remove(first, last)) == model & piece
            model -= piece
        assert numbers(spans) == model
        assert spans.count == len(model)
        assert (spans.first, spans.last) == (min(model, default=None), max(model, default=None))
        assert bool(spans) == bool(model)
        assert all((n in spans) == (n in model) for n in range(42))


@given(steps)
def test_ranges_are_ascending_disjoint_and_never_adjacent(steps):
    spans = Spans()
    for what, piece in steps:
        getattr(spans, what)(*piece)
    ranges = list(spans)
    assert all(first <= last for first, last in ranges)
    assert all(before[1] + 1 < after[0] for before, after in pairwise(ranges))
    assert Spans(ranges) == spans == spans.copy()
    assert repr(spans) == f"Spans({ranges})"
    spans.clear()
    assert list(spans) == []


@given(steps, number)
def test_gaps_are_what_is_missing(steps, somewhere):
    spans, model = Spans(), set()
    for what, (first, last) in steps:
        getattr(spans, what)(first, last)
        (model.update if what == "add" else model.difference_update)(range(first, last + 1))
    assert numbers(spans.gaps(somewhere + 7, somewhere)) == set(range(somewhere, somewhere + 8)) - model
    assert numbers(spans.gaps(50)) == set(range(1, 51)) - model
    assert spans.reaches(somewhere) is (set(range(1, somewhere + 1)) <= model)


def test_a_range_without_end_costs_nothing():
    spans = Spans([(5, 2**62)])
    spans.remove(100)
    assert list(spans) == [(5, 99), (101, 2**62)]
    assert spans.gaps(2**62) == ((1, 4), (100, 100))
    assert spans.count == 2**62 - 5
    spans.add(2)
    assert 2 in spans
    spans.remove(2)
    assert 2 not in spans
    assert Spans().reaches(0)
