"""Faults that are a matter of time, without a port: lateness, storms, reboots, babble, a port that goes."""

from __future__ import annotations

from itertools import pairwise

import pytest

CHARACTER = 10 / 9600
THINKS = 0.003
MANY = 400


def test_slow_and_late_add_seconds(line):
    for fault, seconds in (("slow seconds=0.2", 0.2), ("late seconds=1.5", 1.5)):
        ill = line([fault])
        plan = ill.ask()
        assert plan[-1].due - ill.hands.now == pytest.approx(THINKS + seconds + 9 * CHARACTER)


def test_a_device_that_is_late_answers_what_waits_in_order_and_remembers_only_a_little(line):
    ill = line(["late seconds=1"])
    frames = [bytes.fromhex(f"06 0003 {k:04x}") for k in range(8)]
    plans = []
    for frame in frames:
        plans.append(ill.ask(frame))
        ill.hands.now += 0.1
    assert [bool(plan) for plan in plans] == [True] * 5 + [False] * 3
    assert [b"".join(data for _, data in plan) for plan in plans[:5]] == [ill.frame(frame) for frame in frames[:5]]
    ends = [plan[-1].due for plan in plans[:5]]
    assert all(b - a == pytest.approx(1 + THINKS + 8 * CHARACTER) for a, b in pairwise(ends))
    assert ill.ask(unit=2)[-1].due < ill.hands.now + 0.1  # the other device is not late
    ill.hands.now = ends[-1] + 0.1
    assert ill.ask()


def test_late_replies_at_a_rate(line):
    ill = line(["late seconds=1.5 rate=0.25"])
    late = 0
    for _ in range(MANY):
        late += ill.ask()[-1].due > ill.hands.now + 1
        ill.hands.now += 5
    assert late == pytest.approx(MANY / 4, abs=40)


def test_babble_comes_at_the_speed_of_the_line_and_nothing_gets_through(line):
    ill = line(["babble after=10 seconds=5 every=20"], name="rs485")
    begin = ill.hands.now
    assert ill.ask()
    assert ill.bus.babble(begin, begin + 9.9) == []
    flood = [piece for k in range(10) for piece in ill.bus.babble(begin + 10 + k / 2, begin + 10.5 + k / 2)]
    assert sum(len(data) for _, data in flood) == pytest.approx(5 / CHARACTER, abs=64)
    assert all(b.due - a.due == pytest.approx(32 * CHARACTER) for a, b in pairwise(flood))
    ill.hands.now += 12
    assert ill.ask() == []
    ill.hands.now += 4
    assert ill.ask()
    assert ill.bus.babble(begin + 15.1, begin + 29.9) == []
    assert ill.bus.babble(begin + 30, begin + 31)
    assert line().bus.babble(begin, begin + 9) == []


def test_babble_without_end(line):
    ill = line(["babble"], name="rs485")
    ill.hands.now += 1_000_000
    assert ill.bus.babble(ill.hands.now - 1, ill.hands.now)
    assert ill.ask() == []


def test_a_storm_comes_and_goes(line):
    ill = line(["storm code=6 seconds=4 every=20 after=10"])
    codes = []
    for _ in range(50):
        data = ill.heard()
        codes.append(data[2] if data[1] & 0x80 else 0)
    at = [2 * k for k, code in enumerate(codes) if code == 6]
    assert at == [10, 12, 30, 32, 50, 52, 70, 72, 90, 92]


def test_a_reboot_is_silent_and_its_counters_begin_anew(line):
    ill = line(["reboot seconds=6 every=600 after=10"])
    before = ill.simulator.held("meter", "energy", int(ill.hands.now * 1000))[0]
    answers = []
    for _ in range(15):
        now, data = int(ill.hands.now * 1000), ill.heard()
        held = ill.simulator.held("meter", "energy", now, slack_ms=0)
        answers.append((data, held))
        if data:
            assert held == pytest.approx((int.from_bytes(data[3:7], "big") * 0.001,))
    assert [k for k, (data, _) in enumerate(answers) if not data] == [5, 6, 7]
    assert answers[4][1][0] >= before > 10
    assert all(held[0] < 0.1 for _, held in answers[8:])
    assert answers[-1][1] > answers[8][1]
    assert ill.simulator.held("meter", "energy", 1_000_000, slack_ms=0) == (before,)
    assert ill.simulator.held("other", "energy", int(ill.hands.now * 1000))[0] > 10


def test_a_reboot_keeps_what_was_written_and_comes_again(line):
    ill = line(["reboot seconds=1 every=40 after=20"])
    ill.heard(bytes.fromhex("06 0003 002a"))
    energies = []
    for _ in range(70):
        now = int(ill.hands.now * 1000)
        energies += ill.simulator.held("meter", "energy", now, slack_ms=0)
        assert ill.simulator.held("meter", "setpoint", now, slack_ms=0) == (42,)
        ill.heard()
    falls = [2 * k for k, (a, b) in enumerate(pairwise(energies), 2) if b < a]
    assert falls == [20, 60, 100, 140]


def test_other_faults_that_are_given_start_no_device_again(line):
    ill = line(["reboot seconds=1"], name="rs485")
    ill.hands.now += 30
    ill.simulator.refresh()
    grown = ill.simulator.held("meter", "energy", int(ill.hands.now * 1000))
    ill.simulator.afflict("meter", ["crc"])
    ill.heard()
    assert ill.simulator.held("meter", "energy", int(ill.hands.now * 1000))[-1] >= grown[-1] > 0


def test_nothing_is_carried_while_the_port_is_gone(line):
    ill = line(["unplug seconds=3 after=4"], name="rs485")
    seen = []
    for _ in range(10):
        assert bool(ill.ask()) is not ill.bus.unplugged(ill.hands.now)
        seen.append(ill.bus.unplugged(ill.hands.now))
        ill.hands.now += 1
    assert seen == [False] * 4 + [True] * 3 + [False] * 3
