"""The native payload, judged by a decoder that was written from the contract alone."""

from __future__ import annotations

import json
import random
import zlib
from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.base import Sample
from gateway.errors import UplinkError
from gateway.model import Batch, Readings
from gateway.uplink.payload import native, native_json
from gateway.uplink.payload.decode import MAX_BYTES, decode

M0 = 5_000_000
T0 = 1_790_000_000_000


def batch(readings: list[Readings], **more: Any) -> Batch:
    zipped, data = native.encode_blocks(readings, M0)
    known = {"epoch": "12-0123456789abcdef", "stream": "t", "seq": 12345, "boot": "0123456789ab", "t0": T0, "m0": M0}
    count = sum(len(r.samples) for r in readings)
    return Batch(**known | {"clk": "synced", "count": count, "zipped": zipped, "data": data} | more)


Rows = dict[tuple[str, str, str, int], tuple[Any, str]]


def rows_of(readings: list[Readings]) -> Rows:
    return {(r.device, r.cfg, s.point, T0 + r.at - M0): (s.value, s.quality) for r in readings for s in r.samples}


def ours(payload: bytes) -> Rows:
    message = decode(payload)
    return {
        (block.device, block.cfg, r.point, r.ts): (r.value, r.quality)
        for block in message.blocks
        for r in message.readings_of(block)
    }


def outside(rows: list[tuple[Any, ...]]) -> Rows:
    return {row[:4]: row[4:] for row in rows}


def same(found: Rows, wanted: Rows) -> None:
    """Equal, and no number has become a truth."""
    assert found == wanted
    assert {key for key, (value, _) in found.items() if isinstance(value, bool)} == {
        key for key, (value, _) in wanted.items() if isinstance(value, bool)
    }


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda x: x or 0.0),
    st.decimals(-(10**9), 10**9, places=3).map(float).map(lambda x: x or 0.0),
    st.text(max_size=8),
)
QUALITIES = st.sampled_from(["good", "good", "good", "bad:timeout", "uncertain:range", "bad:exception-2"])
NAMES = st.sampled_from([("voltage_l1",), ("voltage_l1", "state"), ("a", "b", "c"), ("điện áp",)])


@st.composite
def readings_lists(draw: st.DrawFn) -> list[Readings]:
    found, used = [], set()
    column = draw(st.sampled_from(["mixed", "one kind"]))
    kind = draw(st.sampled_from([VALUES, st.integers(-(10**6), 10**6), st.decimals(0, 10**6, places=2).map(float)]))
    for _ in range(draw(st.integers(0, 12))):
        names = draw(NAMES)
        device, at = draw(st.sampled_from(["meter-1", "bơm"])), draw(st.integers(M0 - 10**6, M0 + 10**6))
        if (device, at) in used:
            continue
        used.add((device, at))
        samples = [Sample(n, draw(VALUES if column == "mixed" else st.none() | kind), draw(QUALITIES)) for n in names]
        found.append(Readings(device, "a1b2c3d4", at, samples))
    return found


@settings(max_examples=300, deadline=None)
@given(readings_lists())
def test_every_value_comes_back_exactly(oracle: Any, readings: list[Readings]) -> None:
    payload = native.message("gw-1", batch(readings))
    same(outside(oracle(payload)["rows"]), rows_of(readings))
    same(ours(payload), rows_of(readings))


@settings(max_examples=300, deadline=None)
@given(readings_lists())
def test_every_value_comes_back_from_json(oracle: Any, readings: list[Readings]) -> None:
    payload = native_json.message("gw-1", batch(readings))
    wanted = rows_of(readings)
    for found in (ours(payload), outside(oracle(payload)["rows"])):
        assert found.keys() == wanted.keys()
        for key, (value, quality) in found.items():
            # A column that mixes 64-bit integers with other kinds carries them as text (contract section 2).
            assert (value, quality) == wanted[key] or (str(value), quality) == (str(wanted[key][0]), wanted[key][1])


@settings(max_examples=100, deadline=None)
@given(readings_lists(), st.integers(300, 2000), st.sampled_from([native, native_json]))
def test_parts_are_small_enough_and_make_the_whole(
    oracle: Any, readings: list[Readings], limit: int, form: Any
) -> None:
    whole = batch(readings)
    try:
        parts = form.split("gw-1", whole, limit)
    except UplinkError:  # one row alone is too large
        return
    assert all(len(part) <= limit for part in parts)
    found: Rows = {}
    for i, part in enumerate(parts, 1):
        message = decode(part)
        assert message.part == ((i, len(parts)) if len(parts) > 1 else None)
        assert not found.keys() & ours(part).keys()
        found |= ours(part)
        assert outside(oracle(part)["rows"]).keys() == ours(part).keys()
    assert found.keys() == rows_of(readings).keys()
    if form is native:
        same(found, rows_of(readings))


def test_what_cannot_be_cut_is_named() -> None:
    readings = [Readings("meter-1", "c", M0, [Sample("p", "x" * 100)])]
    with pytest.raises(UplinkError, match=r"12-0123456789abcdef t/12345.*one reply of device 'meter-1'"):
        native.split("gw-1", batch(readings), 150)


def test_the_example_of_the_contract(oracle: Any) -> None:
    example = [
        [
            "meter-1", "a1b2c3d4", ["voltage_l1", "state"], [0, 1000, 1000],
            [[-1, [2302, 1, -3]], [None, ["on", "on", None]]], [[1, 2, "bad:timeout"]],
        ]
    ]  # fmt: skip
    triples = [(230.2, "on", "good"), (230.3, "on", "good"), (230.0, None, "bad:timeout")]
    readings = [
        Readings("meter-1", "a1b2c3d4", M0 + 1000 * i, [Sample("voltage_l1", v), Sample("state", state, quality)])
        for i, (v, state, quality) in enumerate(triples)
    ]
    zipped, data = native.encode_blocks(readings, M0)
    assert not zipped
    assert msgpack.unpackb(data) == example
    assert json.loads(native_json.message("gw-1", batch(readings)))["d"] == example
    same(outside(oracle(native.message("gw-1", batch(readings)))["rows"]), rows_of(readings))


def test_the_envelope_has_the_keys_of_the_contract() -> None:
    readings = [Readings("m", "c", M0, [Sample("p", 1)])]
    message = msgpack.unpackb(native.message("gw-1", batch(readings, historical=True), (1, 2)))
    assert list(message) == ["v", "gw", "epoch", "seq", "part", "boot", "t0", "m0", "clk", "hist", "d"]
    assert message["part"] == [1, 2]
    assert "hist" not in msgpack.unpackb(native.message("gw-1", batch(readings)))


@pytest.mark.parametrize(
    ("values", "column"),
    [
        ([230.2, 230.3, 230.0], [-1, [2302, 1, -3]]),
        ([1, 2, 4], [0, [1, 1, 2]]),
        ([5.0, 7.0], [0, [5, 2]]),
        ([1, 2.5], [-1, [10, 15]]),
        ([0.001, None, 0.002], [-3, [1, None, 1]]),
        ([1e-9], [-9, [1]]),
        ([2**64 - 1], [None, [2**64 - 1]]),
        ([2**63 - 1, 0], [0, [2**63 - 1, 1 - 2**63]]),
        ([2**62, -(2**62) - 1], [None, [2**62, -(2**62) - 1]]),
        ([1 / 3], [None, [1 / 3]]),
        ([1e300], [None, [1e300]]),
        ([True, False], [None, [True, False]]),
        ([True, 2], [None, [True, 2]]),
        (["on", 7], [None, ["on", 7]]),
        ([None, None], [None, [None, None]]),
    ],
)
def test_columns(values: list[Any], column: list[Any]) -> None:
    readings = [Readings("m", "c", M0 + i, [Sample("p", value)]) for i, value in enumerate(values)]
    _, data = native.encode_blocks(readings, M0)
    assert msgpack.unpackb(data)[0][4] == [column]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 2**64, -(2**63) - 1])
@pytest.mark.parametrize("others", [[], [1.5], ["on"]])
def test_what_no_receiver_could_take_becomes_null_with_a_reason(oracle: Any, value: float, others: list[Any]) -> None:
    for form in (native, native_json):
        readings = [Readings("m", "c", M0 + i, [Sample("p", v)]) for i, v in enumerate([value, *others])]
        readings.append(Readings("m", "c", M0 + 9, [Sample("p", value, "bad:sentinel")]))
        rows = outside(oracle(form.message("gw-1", batch(readings)))["rows"])
        assert rows["m", "c", "p", T0] == (None, "bad:decode")
        assert rows["m", "c", "p", T0 + 9] == (None, "bad:sentinel")
        assert [value for value, quality in rows.values() if quality == "good"] == others


def test_a_lone_surrogate_does_not_stop_the_agent() -> None:
    readings = [Readings("m", "c", M0, [Sample("p", "\ud800")])]
    assert ours(native.message("gw-1", batch(readings)))["m", "c", "p", T0] == ("?", "good")
    assert native_json.message("gw-1", batch(readings))


def test_64_bit_integers_are_text_in_json(oracle: Any) -> None:
    readings = [Readings("m", "c", M0 + i, [Sample("p", v)]) for i, v in enumerate([2**64 - 1, None, 0])]
    payload = native_json.message("gw-1", batch(readings))
    assert json.loads(payload)["d"][0][4] == [[0, [str(2**64 - 1), None, str(1 - 2**64)]]]
    same(ours(payload), rows_of(readings))
    same(outside(oracle(payload)["rows"]), rows_of(readings))


def test_an_event_carries_its_place_in_the_stream() -> None:
    body = {"id": "x", "state": "raised", "gw": "someone else", "data": {"n": 2**60, "bad": float("nan")}}
    event = Batch("1-x", "e", 7, "b", T0, M0, "holdover", 0, False, msgpack.packb(body), historical=True)
    for form in (native, native_json):
        message = decode(form.message("gw-1", event))
        assert message.key == ("gw-1", "1-x", "e", 7, None)
        assert (message.t0, message.clk, message.hist) == (T0, "holdover", True)
        assert message.body["state"] == "raised"
        assert form.split("gw-1", event, 10_000) == [form.message("gw-1", event)]
        with pytest.raises(UplinkError, match="1-x e/7"):
            form.split("gw-1", event, 20)
    assert json.loads(native_json.message("gw-1", event))["data"] == {"n": str(2**60), "bad": None}


def walk(rows: int) -> list[Readings]:
    """The reference workload: 15 meters with 4 tags, random walks."""
    dice = random.Random(7)
    state = [
        [230 + dice.gauss(0, 2), dice.uniform(1, 40), dice.uniform(100, 9000), dice.uniform(1e3, 1e5)]
        for _ in range(15)
    ]
    found = []
    for row in range(rows):
        for meter, values in enumerate(state, 1):
            values[0] += dice.gauss(0, 0.3)
            values[1] = abs(values[1] + dice.gauss(0, 0.2))
            values[2] = abs(values[2] + dice.gauss(0, 20))
            values[3] += values[2] / 360_000
            samples = [
                Sample("voltage_l1", round(values[0], 1)),
                Sample("current_l1", round(values[1], 2)),
                Sample("power", round(values[2])),
                Sample("energy", round(values[3], 2)),
            ]
            found.append(
                Readings(f"meter-{meter}", "a1b2c3d4", M0 + 1000 * row + 41 * meter + dice.randrange(8), samples)
            )
    return found


@pytest.mark.parametrize(("rows", "limit"), [(1, 9.0), (10, 2.5)])
def test_sizes_on_the_reference_workload(rows: int, limit: float) -> None:
    readings = walk(rows)
    size = len(native.message("tn-p1-cab-014", batch(readings)))
    assert size / (60 * rows) <= limit


def malformed() -> dict[str, bytes]:
    good = msgpack.unpackb(native.message("gw-1", batch([Readings("m", "c", M0, [Sample("p", 1)])])))
    bomb = zlib.compress(bytes(MAX_BYTES + 1))
    raw = msgpack.packb

    def with_block(*block: Any) -> bytes:
        return raw(good | {"d": raw([list(block)])})

    return {
        "empty": b"",
        "a number": b"\x01",
        "cut short": raw(good)[:-1],
        "with a tail": raw(good) + b"\x01",
        "a list": raw([1]),
        "keys that are not text": raw({1: 2}),
        "not JSON": b"{]",
        "deep": b'{"a":' + b"[" * 100_000,
        "too large": b"{" + bytes(MAX_BYTES),
        "another version": raw(good | {"v": 2}),
        "no gateway": raw({k: v for k, v in good.items() if k != "gw"}),
        "seq 0": raw(good | {"seq": 0}),
        "seq of text": raw(good | {"seq": "1"}),
        "seq of truth": raw(good | {"seq": True}),
        "part 0": raw(good | {"part": [0, 1]}),
        "part 3 of 2": raw(good | {"part": [3, 2]}),
        "unknown compression": raw(good | {"z": "zstd"}),
        "not compressed": raw(good | {"z": "zlib"}),
        "a bomb": raw(good | {"z": "zlib", "d": bomb}),
        "compressed data cut short": raw(good | {"z": "zlib", "d": zlib.compress(good["d"])[:-3]}),
        "data that is a number": raw(good | {"d": 7}),
        "data that is not MessagePack": raw(good | {"d": b"\xc1"}),
        "a block that is a number": raw(good | {"d": raw([7])}),
        "a short block": with_block("m", "c", ["p"], [0], [[0, [1]]]),
        "no points": with_block("m", "c", [], [0], [], []),
        "fewer columns than points": with_block("m", "c", ["p", "q"], [0], [[0, [1]]], []),
        "a short column": with_block("m", "c", ["p"], [0, 1], [[0, [1]]], []),
        "a time that is text": with_block("m", "c", ["p"], ["0"], [[0, [1]]], []),
        "a point that is a number": with_block("m", "c", [1], [0], [[0, [1]]], []),
        "a step that is a list": with_block("m", "c", ["p"], [0], [[0, [[]]]], []),
        "a step that is text": with_block("m", "c", ["p"], [0], [[0, ["x"]]], []),
        "a value that is a map": with_block("m", "c", ["p"], [0], [[None, [{}]]], []),
        "a value that is not finite": with_block("m", "c", ["p"], [0], [[None, [float("nan")]]], []),
        "a huge exponent": with_block("m", "c", ["p"], [0], [[10**6, [1]]], []),
        "quality of no row": with_block("m", "c", ["p"], [0], [[0, [1]]], [[0, 1, "bad:crc"]]),
        "quality without code": with_block("m", "c", ["p"], [0], [[0, [1]]], [[0, 0]]),
    }


@pytest.mark.parametrize("name", malformed())
def test_malformed_messages_are_refused_with_a_sentence(name: str) -> None:
    with pytest.raises(ValueError, match=r"^(the|a) .+ .+"):
        decode(malformed()[name])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_comes_is_read_or_refused(data: st.DataObject) -> None:
    good = bytearray(native.message("gw-1", batch(walk(1))))
    for _ in range(data.draw(st.integers(1, 6))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    with suppress(ValueError):
        assert decode(bytes(good)).readings is not None
