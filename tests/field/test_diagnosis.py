"""What a line's troubles look like, and which cause they are told as."""

from __future__ import annotations

import pytest

from drivers.base import CLIPPED, CRC, NOISE, WRONG_FUNCTION, WRONG_LENGTH, WRONG_UNIT
from gateway.field.diagnosis import LATE, MARGIN, ON_TOP, ON_TOP_OF_PROBE, SURE_AFTER, TIMEOUT, Record, Seen, causes


def well(name: str = "meter-1", exchanges: int = 100) -> Seen:
    return Seen(name, exchanges, exchanges, {})


def codes(*seen: Seen, **errors: int) -> list[tuple[str, str]]:
    return [(cause.code, cause.device) for cause in causes("rs485-1", seen, errors)]


def test_a_line_without_trouble_has_no_cause():
    assert codes(well("a"), well("b"), Seen("c", 100, 98, {CRC: 2})) == []


@pytest.mark.parametrize(
    ("seen", "errors", "code"),
    [
        ([Seen("a", 10, 0, {TIMEOUT: 10}), Seen("b", 10, 0, {TIMEOUT: 10})], {}, "line-silent"),
        ([Seen("a", 10, 0, {NOISE: 10}), Seen("b", 10, 0, {TIMEOUT: 10})], {}, "line-garbled"),
        ([Seen("a", 10, 0, {TIMEOUT: 10}), Seen("b", 10, 0, {TIMEOUT: 10})], {"framing": 40}, "line-garbled"),
        ([Seen("a", 100, 90, {CRC: 10}), Seen("b", 100, 92, {NOISE: 8}), well("c")], {}, "line-noisy"),
    ],
)
def test_what_concerns_the_whole_line(seen, errors, code):
    assert codes(*seen, **errors) == [(code, "")]


def test_framing_errors_on_every_byte_point_at_speed_or_parity():
    (cause,) = causes("rs485-1", [Seen("a", 10, 0, {NOISE: 10}), well("b", 0)], {"framing": 90, "parity": 0})
    assert "90 framing errors" in cause.text
    assert cause.cause == "baud rate or parity differ between the gateway and the devices"
    assert "gateway scan" in cause.advice


@pytest.mark.parametrize(
    ("counts", "code"),
    [
        ({CRC: 20, WRONG_LENGTH: 6}, "duplicate-address"),
        ({CRC: 20, NOISE: 20}, "duplicate-address"),
        ({CLIPPED: 9, NOISE: 2}, "reply-clipped"),
        ({LATE: 9, TIMEOUT: 9}, "reply-late"),
        ({WRONG_UNIT: 9}, "reply-foreign"),
        ({WRONG_FUNCTION: 9}, "reply-foreign"),
    ],
)
def test_what_concerns_one_device(counts, code):
    assert codes(well("a"), well("b"), Seen("c", 60, 40, counts)) == [(code, "c")]


def test_a_few_cases_prove_nothing():
    assert codes(Seen("a", 4, 0, {TIMEOUT: 4}), Seen("b", 0, 0, {})) == []
    assert codes(well("b"), well("d"), Seen("a", 100, 97, {CRC: 2, NOISE: 2})) == []


def test_every_cause_says_what_to_do():
    for seen in (
        [Seen("a", 10, 0, {TIMEOUT: 10}), well("b", 0)],
        [well("a"), well("b"), Seen("c", 60, 40, {CLIPPED: 9})],
    ):
        for cause in causes("rs485-1", seen, {}):
            assert all((cause.text, cause.cause, cause.advice))


# Response times -------------------------------------------------------------------------------------------------------


def test_the_time_out_is_learned_from_the_slowest_answer_and_capped():
    record = Record()
    assert record.timeout(1.0) == 1.0
    for _ in range(SURE_AFTER):
        record.answered(0.010)
    record.answered(0.040)
    assert record.timeout(1.0) == pytest.approx(MARGIN * 0.040 + ON_TOP)
    record.answered(0.600)
    assert record.timeout(1.0) == 1.0


def test_one_slow_answer_is_not_soon_forgotten():
    record = Record()
    record.answered(0.250)
    for _ in range(200):
        record.answered(0.010)
    assert record.timeout(5.0) > MARGIN * 0.200


def test_after_a_silence_the_device_gets_all_the_time_there_is_until_it_answers():
    record = Record()
    for _ in range(100):
        record.answered(0.010)
    short = record.timeout(1.0)
    record.failed(silent=True)
    assert record.timeout(1.0) == 1.0
    assert record.probe_timeout(1.0) == pytest.approx(MARGIN * 0.010 + ON_TOP_OF_PROBE)
    record.answered(0.010)
    assert record.timeout(1.0) == pytest.approx(short)


def test_the_histogram_counts_every_answer_once():
    record = Record()
    for took in (0.0005, 0.001, 0.004, 0.090, 7.0):
        record.answered(took)
    assert record.histogram == [2, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1]
    assert record.percentile_ms(0.5) == 5
    assert Record().percentile_ms(0.5) is None


def test_noise_on_the_whole_line_is_no_address_that_two_have():
    noisy = Seen("c", 30, 20, {CRC: 8, NOISE: 8})
    assert codes(well("a"), noisy) == [("duplicate-address", "c")]
    assert codes(Seen("a", 30, 27, {CRC: 3}), Seen("b", 30, 27, {CRC: 3}), noisy) == []
