"""Row ids: what SQLite sorts by is the order of sending."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.store.rows import LAST_RUN, LAST_SEQ, lane, parts, row_id, run_span


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
