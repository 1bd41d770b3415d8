"""Durations, sizes, names: what is accepted, and what a wrong one is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings.quantities import (
    ASAP,
    Wrong,
    broker,
    cap,
    duration,
    is_plain_remote,
    name,
    period,
    plain,
    seconds,
    show,
    size,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1s", 1.0), ("500ms", 0.5), ("1m", 60.0), ("2h", 7200.0), ("1.5s", 1.5), ("10ms", 0.01), ("24h", 86400.0)],
)
def test_durations(text, value):
    assert duration(text, 0.01, 86400) == value
    assert period(text) == value


def test_asap_is_a_period():
    assert period("asap") == ASAP


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (10, '"10s"'), (1.5, '"1.5s"'), ("10", "unit"), ("10 s", '"10s"'), ("10S", '"10s"'), ("5 min", '"5m"'),
        ("10 giây", '"10s"'), ("1d", "unit"), ("-1s", "unit"), ("1m30s", "unit"), ("", "unit"), ("1s\n", "unit"),
        (True, "unit"), ([], "unit"), ("9999999999s", "unit"), ("0s", "asap"), ("9ms", "10ms"), ("25h", "24h"),
        ("ASAP", '"asap"'), ("1e3s", "unit"), ("nans", "unit"),
    ],
)  # fmt: skip
def test_wrong_periods_say_what_to_write(value, advice):
    with pytest.raises(Wrong) as wrong:
        period(value)
    assert advice in wrong.value.advice


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("512MB", 512_000_000),
        ("64KB", 64_000),
        ("1GiB", 2**30),
        ("1.5GB", 1_500_000_000),
        ("100B", 100),
        ("4kB", 4000),
    ],
)
def test_sizes(text, value):
    assert size(text, 0, 10**12) == value


@pytest.mark.parametrize("value", [512, "512", "512 MB", "512mb", "-1MB", True, None, "9TB", "1MB\n"])
def test_wrong_sizes_say_what_to_write(value):
    with pytest.raises(Wrong) as wrong:
        size(value, 0, 10**12)
    assert "512MB" in wrong.value.advice


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("4kB", 4000), ("500B", 500)])
def test_caps(text, value):
    assert cap(text, 500, 10**9) == value


def test_a_cap_that_is_too_small_says_how_to_have_none():
    with pytest.raises(Wrong, match="less than 500 B") as caught:
        cap("499B", 500, 10**9)
    assert '"0" for no limit' in caught.value.advice
    with pytest.raises(Wrong, match="less than 1 MB"):
        cap("10kB", 10**6, 10**12)
    with pytest.raises(Wrong, match="without a unit"):
        cap(4000, 500, 10**9)


def test_size_bounds_are_named():
    with pytest.raises(Wrong, match="outside 8 MB to 1000 GB"):
        size("1MB", 8 * 10**6, 10**12)


@given(st.floats(0.01, 86400).map(lambda value: round(value, 3)))
def test_a_printed_duration_reads_back(value):
    assert duration(seconds(value), 0.001, 90000) == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("good", ["a", "meter-1", "bus.2_x", "x" * 64, "0"])
def test_names(good):
    assert name(good) == good


@pytest.mark.parametrize(
    ("bad", "suggestion"),
    [
        ("Đồng hồ 1", "dong-ho-1"), ("Meter 1", "meter-1"), ("a/b", "a-b"), ("a+b", "a-b"), ("a#", "a"), ("UP", "up"),
        ("", "allowed"), ("x" * 65, "allowed"), ("a\n", "a"), ("日本", "allowed"),
    ],
)  # fmt: skip
def test_wrong_names_get_a_good_one(bad, suggestion):
    with pytest.raises(Wrong) as wrong:
        name(bad)
    assert suggestion in wrong.value.advice


@given(st.text(max_size=80))
def test_a_suggested_name_is_a_name(text):
    if suggestion := plain(text):
        assert name(suggestion) == suggestion


@pytest.mark.parametrize(
    ("url", "plain_remote"),
    [
        ("mqtts://ioc.example.vn:8883", False), ("mqtts://ioc", False), ("mqtt://localhost", False),
        ("mqtt://127.0.0.1:1883", False), ("mqtt://[::1]:1883", False), ("mqtt://10.0.0.1", True),
        ("mqtt://localhost.example.vn", True), ("mqtt://127.example.vn", True), ("mqtt://ioc/", True),
    ],
)  # fmt: skip
def test_brokers(url, plain_remote):
    assert broker(url) == url
    assert is_plain_remote(url) is plain_remote


@pytest.mark.parametrize(
    "url",
    [
        "ioc.example.vn", "ioc.example.vn:8883", "tcp://ioc:1883", "ssl://ioc", "mqtts://", "mqtts://:8883", "mqtts://a:99999",
        "mqtts://a:0", "mqtts://a:x", "mqtts://a/b", "mqtts://a?b", "mqtts://a b", "", "http://[", "mqtts://u:geheim@a",
    ],
)  # fmt: skip
def test_wrong_brokers_are_told_the_form_and_passwords_are_not_repeated(url):
    with pytest.raises(Wrong) as wrong:
        broker(url)
    assert wrong.value.advice
    assert "geheim" not in str(wrong.value) + wrong.value.advice


@pytest.mark.parametrize(
    ("value", "text"), [(True, "true"), ("x", '"x"'), (3, "3"), ({}, "a table"), ([1], "a list"), ("y" * 90, "...")]
)
def test_values_are_shown_as_they_stand_in_the_file(value, text):
    assert show(value).endswith(text)
    assert len(show(value)) <= 60
