from __future__ import annotations

from gateway.field.health import FIRST_DELAY, LAST_DELAY, Health


def test_a_short_disturbance_does_not_make_a_device_dead():
    health = Health(last_good=10.0)
    assert not health.failed(10.5)
    assert not health.failed(11.0)
    assert not health.failed(12.9)
    assert not health.dead


def test_dead_needs_two_failures_and_more_than_three_seconds():
    health = Health(last_good=10.0)
    assert not health.failed(20.0)
    assert health.failed(21.0)
    assert health.dead


def test_probes_grow_rare_and_the_answer_brings_it_back():
    health = Health(last_good=0.0)
    health.failed(10.0)
    assert health.failed(11.0), "the transition is told once"
    delays = []
    for n in range(8):
        delays.append(health.delay)
        assert not health.failed(12.0 + n)
    assert delays[0] == FIRST_DELAY
    assert delays == sorted(delays)
    assert health.delay == LAST_DELAY
    assert health.good(100.0), "the return is told once"
    assert not health.good(101.0)
    assert health.delay == FIRST_DELAY
