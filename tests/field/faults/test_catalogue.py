"""The faults of a field bus, one test each: B01 unplugged, B02 replugged elsewhere, ... on a virtual clock.

Each test fails without the code that handles its fault (`make mutants` shows some of it). Those about the far end of a
port stand in test_ports.py (B02, B14), counters that wrap or begin anew (B13) in ../test_report.py, wrong speed, parity
and word order (B12) also in tests/control: scan and read.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

TEN = tuple(range(1, 11))
REST = [f"meter-{unit}" for unit in TEN if unit != 3]


@pytest.fixture
def alone(field_of):
    """What each device gets in a minute when none of them has a fault."""
    return field_of({}, TEN, seconds=60.0)


def share(tally, names=REST) -> float:
    """Of the readings told of these devices, how many are good."""
    told = sum((tally.qualities[name] for name in names), start=Counter())
    return told["good"] / told.total()


@pytest.mark.parametrize(
    "fault",
    [
        "silence",
        "silence rate=0.5",
        "slow seconds=0.9",
        "late seconds=1.5",
        "late seconds=3 rate=0.5",
        "wrong-unit",
        "wrong-function",
        "wrong-length",
        "crc",
        "crc rate=0.3 bits=4",
        "noise before=4 after=2",
        "clipped",
        "lost rate=0.5",
        "fragmented piece=4 gap=0.03",
        "conflict",
        "exception code=2",
        "exception code=6",
        "exception code=11",
        "storm code=5 seconds=5 every=10",
        "reboot seconds=5 every=20",
    ],
)
def test_b11_a_device_in_trouble_never_costs_the_others_their_data(field_of, alone, fault):
    """The first minute, in which it has to be found out; then it costs next to nothing."""
    beside = field_of({"meter-3": [fault]}, TEN, seconds=60.0)
    assert beside.wrong == []
    assert share(beside) >= 0.98
    assert min(beside.good(name) / alone.good(name) for name in REST) >= 0.75
    later = field_of({"meter-3": [fault]}, TEN, seconds=180.0, after=60.0)
    assert min(later.good(name) / (2 * alone.good(name)) for name in REST) >= 0.85


def test_b01_an_adapter_that_is_pulled_out_is_said_once_and_taken_up_again_within_5_seconds(field_of):
    tally = field_of({"rs485-1": ["unplug seconds=20 every=1000 after=10"]}, (1, 2), seconds=60.0, every=1.0)
    assert [(code, state) for code, state, _ in tally.events] == [("port-lost", "raised"), ("port-lost", "cleared")]
    assert tally.good("meter-1") >= 20 * (60 - 20 - 5)
    assert tally.good("meter-1") <= 20 * (60 - 20 + 1)


@pytest.mark.parametrize("baud", [4800, 9600, 19200, 115200])
def test_b03_a_babbling_line_is_said_once_and_taken_up_again_when_it_is_silent(field_of, baud):
    tally = field_of({"rs485-1": ["babble seconds=30 every=1000 after=10"]}, (1, 2), seconds=90.0, every=1.0, baud=baud)
    codes = [(code, state) for code, state, _ in tally.events]
    assert codes.count(("port-lost", "raised")) == 1
    assert codes.count(("port-lost", "cleared")) == 1
    assert tally.wrong == []
    assert tally.good("meter-1") >= 20 * (90 - 30 - 7)


@pytest.mark.parametrize("fault", ["crc rate=0.1 bits=4", "lost rate=0.05", "noise before=3 rate=0.2"])
def test_b04_noise_costs_a_retry_and_hardly_a_reading(field_of, fault):
    tally = field_of({"rs485-1": [fault]}, TEN, seconds=120.0)
    assert tally.wrong == []
    assert share(tally) >= 0.97
    assert not [told for told in tally.events if told[0] == "device-silent"]


@pytest.mark.parametrize(
    "fault", ["fragmented piece=1 gap=0.002", "fragmented piece=4 gap=0.02", "fragmented piece=20 gap=0.045"]
)
def test_b05_a_reply_in_pieces_is_taken_by_its_length(field_of, fault):
    tally = field_of({"rs485-1": [fault]}, TEN, seconds=60.0)
    assert share(tally) == 1.0


def test_b06_an_echo_is_stripped_exactly(field_of):
    tally = field_of({"rs485-1": ["echo"]}, TEN, seconds=60.0)
    assert share(tally) == 1.0
    assert tally.wrong == []


@pytest.mark.parametrize("noise", [1, 2, 4])
def test_b06_noise_before_every_frame_costs_nothing(field_of, noise):
    tally = field_of({"rs485-1": [f"noise before={noise}"]}, (5,), seconds=60.0)
    assert share(tally, ["meter-5"]) == 1.0


@pytest.mark.parametrize("seconds", [1.01, 1.2, 1.5, 2.0, 3.0])
def test_b07_a_late_reply_is_never_taken_for_another(field_of, seconds):
    tally = field_of({"rs485-1": [f"late seconds={seconds} rate=0.4"]}, (1, 2), seconds=600.0)
    assert tally.wrong == []
    assert tally.good("meter-1") > 200
    assert ("reply-late", "raised", "meter-1") in tally.events


@pytest.mark.parametrize(("code", "for_good"), [(1, True), (2, True), (3, True), (4, False), (6, False)])
def test_b08_what_is_refused_for_good_is_not_hammered_at(field_of, code, for_good):
    asked = []

    async def count(field):
        await asyncio.sleep(120.0)
        asked.append(field.simulator.answered["meter-1"])

    field_of(
        {"meter-1": [f"exception code={code}"]},
        (1, 2),
        seconds=300.0,
        every=1.0,
        script=count,
        at_end=lambda simulator: asked.append(simulator.answered["meter-1"]),
    )
    polls = asked[1] - asked[0]
    assert polls == pytest.approx(60, abs=45) if for_good else polls >= 2 * 175


def test_b08_a_unit_that_its_gateway_cannot_reach_is_dead(field_of):
    tally = field_of({"meter-1": ["exception code=11"]}, (1, 2), seconds=60.0, every=1.0)
    assert ("device-silent", "raised", "meter-1") in tally.events
    assert set(tally.qualities["meter-1"]) == {"bad:exception-11"}


def test_b08_a_point_that_has_answered_is_asked_again_after_a_storm_of_refusals(field_of):
    tally = field_of({"meter-1": ["storm code=2 seconds=120 every=100000 after=60"]}, (1, 2), seconds=300.0, every=1.0)
    assert tally.good("meter-1") >= 20 * (300 - 120 - 10)


def test_b09_another_device_at_the_address_is_said_and_its_values_are_not_believed(field_of):
    async def swap(field):
        await asyncio.sleep(60.0)
        field.simulator.afflict("meter-1", ["identity product=another"])
        await asyncio.sleep(3700.0)
        field.simulator.afflict("meter-1", [])

    tally = field_of({}, (1, 2), seconds=7800.0, every=10.0, identify=True, script=swap)
    swapped = [(code, state) for code, state, device in tally.events if device == "meter-1"]
    assert swapped == [("device-swapped", "raised"), ("device-swapped", "cleared")]
    assert tally.qualities["meter-1"]["bad:device"] >= 350 * 20
    assert set(tally.qualities["meter-2"]) == {"good"}


def test_b09_another_firmware_is_said_and_what_was_learned_of_the_old_one_is_forgotten(field_of):
    async def update(field):
        await asyncio.sleep(60.0)
        field.simulator.afflict("meter-1", ["identity revision=2.0"])

    tally = field_of({}, (1,), seconds=3700.0, every=10.0, identify=True, script=update)
    assert tally.events == [("device-firmware", "raised", "meter-1")]
    assert set(tally.qualities["meter-1"]) == {"good"}


@pytest.mark.parametrize(
    ("name", "fault", "told"),
    [
        ("meter-2", "conflict", ("duplicate-address", "meter-2")),
        ("meter-2", "clipped rate=0.8", ("reply-clipped", "meter-2")),
        ("meter-2", "wrong-unit rate=0.3", ("reply-foreign", "meter-2")),
        ("meter-2", "wrong-function rate=0.3", ("reply-foreign", "meter-2")),
        ("meter-2", "late seconds=1.3 rate=0.3", ("reply-late", "meter-2")),
        ("meter-2", "late seconds=2.5 rate=0.3", ("reply-late", "meter-2")),
        ("rs485-1", "crc rate=0.2", ("line-noisy", "")),
        ("rs485-1", "crc rate=0.1", ("line-noisy", "")),
        ("rs485-1", "silence", ("line-silent", "")),
    ],
)
def test_b10_b12_what_is_wrong_is_told_by_its_probable_cause(field_of, name, fault, told):
    tally = field_of({name: [fault]}, (1, 2, 3), seconds=120.0, every=1.0)
    causes = {(code, device) for code, state, device in tally.events if code != "device-silent"}
    assert causes == {told}


def test_b11_thirty_devices_and_one_that_is_dead(field_of):
    units = tuple(range(1, 31))
    tally = field_of({"meter-7": ["silence"]}, units, seconds=300.0, every=1.0, baud=115200)
    rest = [f"meter-{unit}" for unit in units if unit != 7]
    assert min(tally.good(name) for name in rest) >= 0.97 * 20 * 300
    assert [told for told in tally.events if told[1] == "raised"] == [("device-silent", "raised", "meter-7")]
