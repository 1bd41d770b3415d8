"""The open batch: its estimate is an upper bound, so no batch is ever larger than 48 KiB."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.base import Sample
from gateway.model import Readings
from gateway.store.tail import BATCH_BYTES, Open, measure, pieces
from gateway.uplink.payload.native import encode_blocks

values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=40),
)
quality = st.sampled_from(["good", "bad:timeout", "bad:exception-11", "uncertain:restarted"])
samples = st.lists(
    st.builds(Sample, st.sampled_from(["u", "công suất", "điểm_3", "p" * 30]), values, quality), min_size=1
)
readings = st.builds(
    Readings,
    st.sampled_from(["đồng hồ", "meter-1", "m2"]),
    st.sampled_from(["a1b2c3d4", "00000000"]),
    st.integers(-(2**40), 2**40),
    samples,
)


def raw_size(batch):
    zipped, data = encode_blocks(batch.readings, batch.m0)
    return len(zlib.decompress(data) if zipped else data)


@given(st.lists(readings, min_size=1, max_size=30))
@settings(max_examples=200, deadline=None)
def test_the_estimate_is_never_below_the_size_of_the_encoded_blocks(many):
    batch = Open(0, 0, "synced", 0.0)
    for one in many:
        batch.add(one, measure(one.samples))
        assert raw_size(batch) <= batch.size


def test_what_does_not_fit_is_refused_and_leaves_the_batch_as_it_was():
    batch = Open(0, 0, "synced", 0.0)
    one = Readings("m", "c", 0, [Sample(f"p{i}", 1e-9 * i) for i in range(100)])
    while batch.add(one, measure(one.samples)):
        pass
    assert batch.size <= BATCH_BYTES
    assert raw_size(batch) <= BATCH_BYTES
    assert batch.count == 100 * len(batch.readings)


@pytest.mark.parametrize("text", ["", "ấ" * 400])
def test_readings_too_large_for_one_batch_are_cut(text):
    whole = Readings("m", "c", 0, [Sample(f"p{i}", text or i) for i in range(9000)])
    parts = list(pieces(whole))
    assert len(parts) > 1
    assert [sample for part, _ in parts for sample in part.samples] == whole.samples
    for part, size in parts:
        batch = Open(0, 0, "synced", 0.0)
        assert batch.add(part, size)
        assert raw_size(batch) <= batch.size <= BATCH_BYTES


def test_small_readings_stay_whole():
    one = Readings("m", "c", 0, [Sample("p", 1)])
    assert [part for part, _ in pieces(one)] == [one]
