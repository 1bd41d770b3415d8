"""Every fault at the level of bytes, without a port: what the line carries, and when."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from gateway.errors import GatewayError
from gateway.simulator import Simulator
from gateway.simulator.faults import KINDS
from gateway.simulator.wire import FRAMINGS, crc16

MANY = 400
CHARACTER = 10 / 9600
THINKS = 0.003


def test_a_healthy_device_answers_at_the_pace_of_the_line(line):
    healthy = line()
    plan, begin = healthy.ask(), healthy.hands.now
    assert b"".join(data for _, data in plan) == healthy.truth()
    assert [due - begin for due, _ in plan] == pytest.approx([THINKS + 8 * CHARACTER, THINKS + 9 * CHARACTER])


def test_what_is_no_request_is_not_answered(line):
    healthy = line()
    assert healthy.bus.answer(healthy.frame()[:-1], healthy.hands.now) == []
    assert healthy.bus.answer(b"", healthy.hands.now) == []
    assert healthy.ask(unit=9) == []


def kind_of(line, data: bytes, truth: bytes) -> str:
    """What a fault has made of a reply."""
    sound = line.bus.framing.sound(data)
    if data == truth:
        return "true"
    if not data:
        return "silent"
    if sound and data[0] != truth[0]:
        return "wrong-unit"
    if sound and data[1] & 0x80:
        return f"exception {data[2]}"
    if sound and data[1] != truth[1]:
        return "wrong-function"
    if sound and len(data) != len(truth):
        return "wrong-length"
    if truth in data:
        return f"noise {data.index(truth)}+{len(data) - len(truth) - data.index(truth)}"
    if truth.endswith(data):
        return f"clipped {len(truth) - len(data)}"
    if len(data) == len(truth) and not sound:
        flips = (int.from_bytes(data, "big") ^ int.from_bytes(truth, "big")).bit_count()
        return f"flipped {flips}"
    return f"lost {len(truth) - len(data)}" if len(data) < len(truth) else "mangled"


@pytest.mark.parametrize(
    ("fault", "kinds"),
    [
        ("silence", {"silent"}),
        ("silence rate=0.2", {"silent", "true"}),
        ("wrong-unit", {"wrong-unit"}),
        ("wrong-unit rate=0.5", {"wrong-unit", "true"}),
        ("wrong-function", {"wrong-function"}),
        ("wrong-length", {"wrong-length"}),
        ("crc bits=1", {"flipped 1"}),
        ("crc bits=4", {f"flipped {n}" for n in (1, 2, 3, 4)}),
        ("crc rate=0.5 bits=2", {"flipped 1", "flipped 2", "true"}),
        ("noise", {"noise 3+0"}),
        ("noise before=0 after=2", {"noise 0+2"}),
        ("noise rate=0.5 before=5 after=1", {"noise 5+1", "true"}),
        ("clipped", {"clipped 1", "clipped 2"}),
        ("clipped bytes=1 rate=0.5", {"clipped 1", "true"}),
        ("lost", {"lost 1"}),
        ("lost bytes=3", {"lost 3"}),
        ("lost bytes=64", {"lost 7"}),
        ("fragmented", {"true"}),
        ("slow", {"true"}),
        ("late", {"true"}),
        ("exception", {"exception 4"}),
        ("exception code=0x0B rate=0.5", {"exception 11", "true"}),
        ("storm code=5 seconds=0", {"exception 5"}),
        ("identity product=x", {"true"}),
    ],
)
def test_what_a_fault_makes_of_a_reply(line, fault, kinds):
    ill = line([fault])
    seen = Counter()
    for _ in range(MANY):
        truth = ill.truth()
        seen[kind_of(ill, ill.heard(), truth)] += 1
    assert set(seen) == kinds
    rate = float(fault.split("rate=")[1].split()[0]) if "rate=" in fault else 1.0
    assert seen["true"] == pytest.approx((1 - rate) * MANY, abs=50) or kinds == {"true"}


@pytest.mark.parametrize("fault", ["crc bits=4", "conflict", "lost", "clipped", "noise after=3"])
def test_no_good_frame_of_other_content_is_ever_made_by_harm(line, fault):
    for framing in ("rtu", "ascii"):
        ill, sizes = line([fault], framing=framing), set()
        for _ in range(MANY):
            truth, data = ill.truth(), ill.heard()
            sizes.add(len(data))
            windows = {data[at : at + len(truth)] for at in range(len(data))}
            assert {window for window in windows if FRAMINGS[framing].sound(window)} <= {truth}
        assert len(sizes) > 1 or fault.startswith(("crc", "lost", "noise"))


def test_colliding_replies_have_other_lengths_and_now_and_then_the_true_one_comes_through(line):
    ill = line(["conflict clean=0.25"])
    clean, sizes = 0, Counter()
    for _ in range(MANY):
        truth, data = ill.truth(), ill.heard()
        clean += data == truth
        sizes[len(data)] += 1
    assert clean == pytest.approx(MANY / 4, abs=40)
    assert len(sizes) > 4
    write = bytes.fromhex("06 0003 0001")
    assert any(ill.heard(write) != ill.frame(write) for _ in range(10))


@pytest.mark.parametrize("pdu", ["03 0000 0001", "03 0000 0004", "06 0003 0007", "16 0003 0000 0001", "2b 0e 01 00"])
@pytest.mark.parametrize("fault", ["wrong-unit", "wrong-function", "wrong-length"])
def test_a_wrong_reply_is_a_good_frame_of_the_shape_it_claims(line, pdu, fault):
    ill, pdu = line([fault]), bytes.fromhex(pdu)
    asked = line().heard(pdu)
    for _ in range(60):
        data = ill.heard(pdu)
        assert crc16(data[:-2]) == data[-2:]
        assert data != asked
        if data[1] in (1, 2, 3, 4):
            assert data[2] == len(data) - 5 > 0
            assert data[1] < 3 or data[2] % 2 == 0
        if fault == "wrong-function":
            assert data[1] in (1, 2, 3, 4, 5, 6, 15, 16)
            assert data[1] != pdu[0]


def test_bits_of_another_length(tcp_site, point, hands, line_of):
    coils = tuple(point(f"k{i}", "coil", i, "bit") for i in range(9))
    simulator = Simulator(tcp_site("rtu", meter=(1, coils)), clock=hands.clock(), faults={"meter": ["wrong-length"]})
    ill = line_of(simulator, "net")
    assert {len(ill.heard(bytes.fromhex("01 0000 0009"))) for _ in range(50)} == {6, 8, 9}


def test_a_fragmented_reply_has_gaps_longer_than_three_and_a_half_characters(line):
    ill = line(["fragmented piece=3 gap=0.02"])
    plan = ill.ask()
    assert [len(data) for _, data in plan] == [3, 3, 3]
    assert all(b.due - a.due - len(b.data) * CHARACTER == pytest.approx(0.02) for a, b in pairwise(plan))


def test_the_line_gives_every_request_back(line):
    ill = line(["echo"], name="rs485")
    request = ill.frame()
    plan, now = ill.bus.answer(request, ill.hands.now), ill.hands.now
    assert plan[0] == (now, request)
    assert b"".join(data for _, data in plan) == request + ill.truth()
    assert ill.ask(unit=77) == [(now, ill.frame(unit=77))]
    write = bytes.fromhex("06 0003 0009")
    assert ill.ask(write, unit=0) == [(now, ill.frame(write, 0))]


def test_a_device_that_refuses_changes_nothing(line):
    ill = line(["exception"])
    ill.heard(bytes.fromhex("06 0003 4321"))
    ill.simulator.afflict("meter", [])
    assert ill.heard(bytes.fromhex("03 0003 0001"))[3:5] != b"\x43\x21"


def test_faults_work_together_in_their_order(line):
    ill = line(["noise before=2", "crc bits=1", "fragmented piece=4", "slow seconds=0.5"])
    truth, plan = ill.truth(), ill.ask()
    data = b"".join(data for _, data in plan)
    assert len(data) == len(truth) + 2
    assert [len(piece) for _, piece in plan] == [4, 4, 3]
    assert plan[0].due > ill.hands.now + 0.5
    last = line(["crc", "wrong-unit"])
    assert FRAMINGS["rtu"].sound(last.heard())
    nothing = line(["lost bytes=64", "clipped bytes=4", "crc", "noise"])
    assert {len(nothing.heard()) for _ in range(40)} == {0, 4}


def test_the_fault_of_a_bus_befalls_each_of_its_devices_beside_their_own(line):
    ill = line(["silence rate=0.5"], name="rs485", meter=["exception code=2"])
    seen = {unit: Counter(len(ill.heard(unit=unit)) for _ in range(100)) for unit in (1, 2)}
    assert set(seen[1]) == {0, 5}
    assert set(seen[2]) == {0, 9}
    ill.simulator.afflict("rs485", [])
    assert {len(ill.heard()) for _ in range(20)} == {5}
    ill.simulator.afflict("meter", [])
    assert {len(ill.heard()) for _ in range(20)} == {9}


def test_the_same_seed_gives_the_same_sequence_whatever_others_do(line):
    faults = ["crc rate=0.3 bits=4", "late rate=0.1", "noise rate=0.5"]

    def run(seed, neighbours):
        ill = line(faults, seed=seed)
        plans = []
        for _ in range(100):
            for _ in range(neighbours):
                ill.ask(unit=2)
            start = ill.hands.now
            plans.append([(round(due - start, 6), len(data)) for due, data in ill.ask()])
            ill.hands.now += 10
        return plans

    assert run(1, 0) == run(1, 3)
    assert run(1, 0) != run(2, 0)


def test_every_device_has_its_own_dice(line):
    ill = line(["silence rate=0.5"], name="rs485")
    first, second = ([bool(ill.heard(unit=unit)) for _ in range(60)] for unit in (1, 2))
    assert first != second


def test_a_broadcast_is_heard_by_those_that_hear(line):
    ill = line(["silence"])
    ill.heard(bytes.fromhex("06 0003 0011"), unit=0)
    now = int(ill.hands.now * 1000)
    assert ill.simulator.held("other", "setpoint", now) == (0x11,)
    assert ill.simulator.held("meter", "setpoint", now) != (0x11,)


def test_modbus_tcp_answers_at_once_and_can_be_slow(tcp_site, points, hands, line_of):
    simulator = Simulator(tcp_site(meter=(1, points)), clock=hands.clock())
    tcp = line_of(simulator, "net")
    assert [due for due, _ in tcp.ask()] == [hands.now]
    assert tcp.ask(unit=9)[0].data[7:] == b"\x83\x0b"
    simulator.afflict("meter", ["slow seconds=0.4", "wrong-unit"])
    ((due, data),) = tcp.ask()
    assert due == hands.now + 0.4
    assert data[6] != 1


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.wire])
def test_modbus_tcp_does_not_harm_bytes(tcp_site, points, name):
    site = tcp_site(meter=(1, points))
    with pytest.raises(GatewayError, match="TCP carries bytes"):
        Simulator(site, faults={"net": [name]})
    bus = replace(site.buses[0], framing="rtu")
    Simulator(replace(site, buses=(bus,)), faults={"net": [name]})
