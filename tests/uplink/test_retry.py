"""When a gateway tries again, and how it notices another one with its id."""

from __future__ import annotations

import pytest

from gateway.uplink.pulse import DEAD, PING, Pulse
from gateway.uplink.retry import Retry


@pytest.mark.parametrize(
    ("outage", "longest"), [(0, 0.5), (10, 0.5), (60, 2.4), (300, 12.0), (750, 30.0), (86400, 30.0)]
)
def test_the_delay_grows_with_the_outage(outage: float, longest: float) -> None:
    retry = Retry(0.5, 30.0, 10.0, now=1000.0)
    now = 1000.0 + outage
    assert retry.longest(now) == pytest.approx(longest)
    delays = [retry.delay(now) for _ in range(500)]
    assert 0 <= min(delays) < 0.2 * longest
    assert 0.8 * longest < max(delays) <= longest


def test_three_hundred_gateways_do_not_come_at_once() -> None:
    """After an hour without the broker, each comes at its own time within half a minute."""
    fleet = [Retry(0.5, 30.0, 10.0, now=0.0) for _ in range(300)]
    arrivals = sorted(one.delay(3600.0) for one in fleet)
    busiest = max(sum(t <= at < t + 1 for at in arrivals) for t in arrivals)
    assert busiest < 30


def test_only_a_connection_that_held_ends_an_outage() -> None:
    retry = Retry(0.5, 30.0, 10.0, now=0.0)
    assert retry.ended(100.0, 101.0) == []
    assert retry.longest(101.0) == pytest.approx(4.04)
    assert retry.ended(110.0, 130.0) == []
    assert retry.longest(130.0) == 0.5


def test_a_rival_is_noticed_and_left_in_peace() -> None:
    retry = Retry(0.5, 30.0, 10.0, now=0.0)
    assert [retry.taken_over(1.0), retry.taken_over(2.0), retry.rival] == [[], [], False]
    [raised] = retry.taken_over(3.0)
    assert (raised["code"], raised["state"], retry.rival) == ("session-takeover", "raised", True)
    assert "gateway.id" in raised["cause"]
    assert all(30 <= retry.delay(3.0) <= 60 for _ in range(100))
    assert retry.taken_over(41.0) == [], "told once"
    assert retry.lasted(100.0, 130.0) == []
    [cleared] = retry.lasted(100.0, 160.0)
    assert (cleared["code"], cleared["state"], retry.rival) == ("session-takeover", "cleared", False)
    assert retry.delay(160.0) <= 30
    assert retry.lasted(100.0, 170.0) == []


def test_takeovers_now_and_then_are_no_storm() -> None:
    retry = Retry(0.5, 30.0, 10.0, now=0.0)
    assert [retry.taken_over(now) for now in (0.0, 40.0, 80.0, 120.0, 160.0)] == [[]] * 5


@pytest.mark.parametrize("period", [1.0, 5.0, 60.0, 3600.0])
@pytest.mark.parametrize("talking", [False, True])
def test_silence_is_noticed_within_one_and_a_half_periods(period: float, talking: bool) -> None:
    pulse = Pulse(period)
    now, verdict, pings, dead_since = 1000.0, "", 0, 1000.0
    while verdict != DEAD:
        now += pulse.tick
        verdict = pulse.look(now, heard=dead_since, said=now if talking else dead_since, unsent=0)
        pings += verdict == PING
        assert now < dead_since + 2 * period
    assert pings == 1
    assert now - dead_since <= 1.5 * period
    assert now - dead_since >= 1.3 * period, "an answer had time"


def test_an_answer_is_a_sign_of_life_and_so_is_a_slow_line() -> None:
    pulse = Pulse(60.0)
    assert pulse.look(59.0, heard=0.0, said=59.0, unsent=0) == ""
    assert pulse.look(60.0, heard=0.0, said=60.0, unsent=50_000) == PING
    for second in range(61, 260):
        left = 50_000 - (second - 60) * 250
        assert pulse.look(float(second), heard=0.0, said=60.0, unsent=left) == "", "it still takes what was written"
    assert pulse.look(260.0, heard=259.5, said=60.0, unsent=0) == ""
    assert pulse.look(320.0, heard=259.5, said=60.0, unsent=0) == PING
    assert pulse.look(349.0, heard=259.5, said=320.0, unsent=2) == DEAD
