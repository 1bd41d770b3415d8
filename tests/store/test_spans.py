"""Sets of integers as ranges: they behave as sets do."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.store.rows import LAST_RUN, LAST_SEQ, lane, parts, row_id, run_span
from gateway.store.spans import Spans

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
        assert len(spans) == len(model)
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


@given(st.sampled_from("ect"), st.integers(0, LAST_RUN), st.integers(0, LAST_SEQ))
def test_row_ids_come_apart_again_and_fit_sqlite(stream, run, seq):
    identity = row_id(stream, run, seq)
    assert parts(identity) == (stream, run, seq)
    assert 0 <= identity < 2**63
    assert lane(stream)[0] <= identity <= lane(stream)[1]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (row_id("e", 7, 9), row_id("c", 1, 1)),
        (row_id("c", 7, 9), row_id("t", 1, 1)),
        (row_id("t", 1, 9), row_id("t", 2, 1)),
        (row_id("t", 2, 1), row_id("t", 2, 2)),
    ],
)
def test_row_ids_sort_in_the_order_of_sending(before, after):
    assert before < after


def test_no_run_of_numbers_crosses_from_one_run_to_the_next():
    assert run_span("t", 1)[1] + 1 < run_span("t", 2)[0]
