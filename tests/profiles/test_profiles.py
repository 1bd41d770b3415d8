"""Every invariant over every profile file; golden frames are decoded by the driver itself."""

from pathlib import Path

import pytest

import drivers
from drivers.base import Exchange, Frame
from drivers.modbus import values
from drivers.modbus.plan import span
from gateway.settings import device_from_profile, profile_names, raw_profile
from gateway.settings.build import finished
from gateway.settings.profile import SHIPPED, Catalogue

NAMES = profile_names()
READS = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}
WRITES = {5, 6, 15, 16}
UNITS = {
    "1", "%", "A", "Cel", "GJ/h", "Hz", "MPa", "V", "V.A", "W", "W/m2", "bar", "cm", "dB", "deg", "h", "hPa", "kPa",
    "kW.h", "m/s", "m3", "m3/h", "m3/s", "mbar", "min", "mm", "mm/min", "mm/s", "ms", "s", "ug/m3", "var",
}  # fmt: skip


def crc(data: bytes) -> bytes:
    """CRC-16 bit by bit, straight from the polynomial: shares nothing with the driver."""
    register = 0xFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0xA001 if register & 1 else 0)
    return register.to_bytes(2, "little")


def body(frame: str) -> bytes:
    data = bytes.fromhex(frame)
    assert data[-2:] == crc(data[:-2]), f"CRC of {frame}"
    return data[:-2]


def answer(conversation, reply: bytes):
    """Run a conversation of one exchange: returns its request and its samples."""
    step = next(conversation)
    assert isinstance(step, Exchange)
    assert step.find is not None
    assert step.find(reply) == Frame(0, len(reply)), "the driver does not take this reply as its own"
    assert not any(isinstance(step.find(reply[:k]), Frame) for k in range(len(reply)))
    with pytest.raises(StopIteration) as done:
        conversation.send(reply)
    return step.request, done.value.value


def told(sample):
    """A sample as golden frames write it: the value, or the quality of no value."""
    return sample.quality if sample.value is None else sample.value


@pytest.fixture(params=NAMES)
def profile(request):
    return Catalogue((SHIPPED,)).get(request.param)


@pytest.fixture
def points(profile):
    return {point.name: finished(point, 10.0) for point in profile.table.point}


def make_driver(profile, unit: int):
    options = device_from_profile(profile.table.profile.id, unit, "bus").options
    return drivers.create("modbus", **options)


def test_there_are_profiles_and_each_is_a_file_of_its_own():
    assert len(NAMES) >= 20
    assert [path.stem for path in sorted(SHIPPED.iterdir())] == NAMES


def test_head_says_what_the_device_is(profile):
    head = profile.table.profile
    assert raw_profile(head.id)["profile"]["class"] == head.class_
    assert head.vendor
    assert head.model
    assert not any("/work" in text or "shared" in text.split("/") for text in (*head.sources, *head.notes))


def test_units_are_known_ucum_codes_and_ranges_are_sane(profile):
    for point in profile.table.point:
        assert point.unit in UNITS, point.name
        assert point.low is None or point.high is None or point.low < point.high, point.name
        assert point.unit != "%" or point.high is None or point.high >= 99, point.name


def test_points_do_not_overlap_unless_they_are_parts_of_one_register(profile, points):
    for one in points.values():
        for other in points.values():
            a, b = one.where, other.where
            if a is b or a.table != b.table or a.end <= b.at or b.end <= a.at:
                continue
            assert (a.at, a.count, b.count) == (b.at, 1, 1), f"{one.name} and {other.name}"
            assert a.field, f"{one.name} covers {other.name}"
            assert b.field, f"{other.name} covers {one.name}"
            bits = [set(range(first, first + many)) for first, many in (a.field, b.field)]
            assert not bits[0] & bits[1], f"{one.name} and {other.name}"


def test_every_point_is_read_by_exactly_one_request(profile, points):
    driver = make_driver(profile, 1)
    planned = [point.name for group in driver.plan(list(points.values())) for point in group]
    assert sorted(planned) == sorted(points)


def test_only_writable_tables_hold_writable_points(profile):
    for point in profile.table.point:
        assert not point.writable or point.table in {"coil", "holding"}, point.name


def test_at_least_one_golden_frame_is_decoded(profile):
    assert any(golden.reply and golden.expect for golden in profile.table.golden)


def test_golden_frames_are_whole(profile):
    for golden in profile.table.golden:
        request = body(golden.request)
        assert request[1] in READS or request[1] in WRITES
        if golden.reply:
            assert body(golden.reply)[:2] == request[:2]
        assert not golden.expect or golden.reply


def test_golden_reads_are_decoded_as_expected(profile, points):
    for golden in profile.table.golden:
        request = body(golden.request)
        if request[1] not in READS or not golden.expect:
            continue
        asked = [points[name] for name in golden.expect]
        table, first, count = READS[request[1]], *(int.from_bytes(request[at : at + 2]) for at in (2, 4))
        inside = {
            point.name
            for point in points.values()
            if point.where.table == table and first <= point.where.at and point.where.end <= first + count
        }
        assert set(golden.expect) == inside, "a golden frame tells every point that it holds"
        driver = make_driver(profile, request[0])
        if span(asked) == (table, first, count) and len(driver.plan(asked)) == 1:
            sent, samples = answer(driver.poll(asked, 0.0), bytes.fromhex(golden.reply))
            assert sent == bytes.fromhex(golden.request)
            assert {sample.point: told(sample) for sample in samples} == golden.expect
        else:
            data = body(golden.reply)[3:]
            for point in asked:
                assert values.reader(point.where, first)(data) == golden.expect[point.name]


def test_golden_writes_are_what_the_driver_sends(profile, points):
    for golden in profile.table.golden:
        request = body(golden.request)
        if request[1] not in WRITES or not golden.expect:
            continue
        [(name, value)] = golden.expect.items()
        assert points[name].writable
        conversation = make_driver(profile, request[0]).write(points[name], value)
        sent, samples = answer(conversation, bytes.fromhex(golden.reply))
        assert sent == bytes.fromhex(golden.request)
        assert [told(sample) for sample in samples] == [value]


def test_birth_of_every_profile_is_stable_and_tells_counters_as_three(profile):
    name = profile.table.profile.id
    device, again, other = (
        device_from_profile(name, 7, "a"),
        device_from_profile(name, 7, "a"),
        device_from_profile(name, 8, "a"),
    )
    assert device.birth == again.birth
    assert device.cfg == again.cfg == other.cfg
    assert device.birth != other.birth
    named = [point["name"] for point in device.birth["points"]]
    for point in device.points:
        derived = [f"{point.name}.total", f"{point.name}.gen"]
        assert [name for name in named if name in derived] == (derived if point.kind == "counter" else [])


def test_profiles_are_installed_with_the_drivers():
    assert Path(drivers.__file__).parent == SHIPPED.parent
