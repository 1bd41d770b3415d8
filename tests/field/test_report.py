from __future__ import annotations

from drivers.base import Point, Sample
from gateway.field.report import HEARTBEAT_MS, Report


def test_without_deadbands_and_counters_everything_is_reported():
    report = Report.of([Point("v", None)])
    samples = [Sample("v", 230.0)]
    assert report.select(samples, 0) == samples
    assert report.select(samples, 1) == samples


def test_a_deadband_keeps_small_changes_back_and_counts_them():
    report = Report.of([Point("v", None, deadband=0.5)])
    values = [230.0, 230.4, 230.5, 230.9, 231.0]
    told = [bool(report.select([Sample("v", value)], at)) for at, value in enumerate(values)]
    assert told == [True, False, True, False, True]
    assert report.suppressed == 2


def test_a_change_of_quality_is_always_reported():
    report = Report.of([Point("v", None, deadband=10.0)])
    steps = [Sample("v", 1.0), Sample("v", None, "bad:timeout"), Sample("v", None, "bad:timeout"), Sample("v", 1.0)]
    assert [bool(report.select([sample], at)) for at, sample in enumerate(steps)] == [True, True, True, True]


def test_a_steady_value_is_repeated_so_that_silence_never_looks_steady():
    report = Report.of([Point("v", None, deadband=1.0)])
    report.select([Sample("v", 5.0)], 0)
    assert report.select([Sample("v", 5.0)], HEARTBEAT_MS - 1) == []
    assert report.select([Sample("v", 5.0)], HEARTBEAT_MS) == [Sample("v", 5.0)]


def totals(report: Report, *raws: float) -> list[tuple[object, object, str]]:
    rows = []
    for raw in raws:
        _, total, generation = report.select([Sample("n", raw)], 0)
        rows.append((total.value, generation.value, total.quality))
    return rows


def test_a_counter_is_three_points():
    report = Report.of([Point("n", None, kind="counter")])
    assert report.select([Sample("n", 100)], 0) == [Sample("n", 100), Sample("n.total", 0), Sample("n.gen", 0)]


def test_a_total_runs_on_over_a_wrap():
    report = Report.of([Point("n", None, kind="counter", wraps_at=65536)])
    assert totals(report, 65000, 65535, 4)[-1] == (540, 0, "good")


def test_a_device_that_restarted_starts_a_new_generation_and_loses_nothing():
    report = Report.of([Point("n", None, kind="counter", wraps_at=65536)])
    assert totals(report, 1000, 1500, 20, 30) == [
        (0, 0, "good"),
        (500, 0, "good"),
        (520, 1, "uncertain:restarted"),
        (530, 1, "good"),
    ]


def test_totals_of_decimals_carry_no_crumbs():
    report = Report.of([Point("n", None, kind="counter", decimals=1)])
    assert totals(report, 0.1, 0.3, 0.4)[-1][0] == 0.3


def test_a_total_survives_a_restart_of_the_agent():
    first = Report.of([Point("n", None, kind="counter")])
    totals(first, 100, 150)
    second = Report.of([Point("n", None, kind="counter")], first.state())
    assert totals(second, 175)[-1] == (75, 0, "good")


def test_a_bad_sample_of_a_counter_leaves_the_total_alone():
    report = Report.of([Point("n", None, kind="counter")])
    totals(report, 100)
    assert report.select([Sample("n", None, "bad:timeout")], 0) == [Sample("n", None, "bad:timeout")]
    assert totals(report, 110)[-1][0] == 10
