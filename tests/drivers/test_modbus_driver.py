from __future__ import annotations

import pytest

from drivers import create
from drivers.base import Point, Sample
from drivers.modbus.driver import Modbus
from drivers.modbus.register import Register

# Golden vectors: frames of real devices and their manuals -------------------------------------------------------------


@pytest.mark.parametrize(
    ("points", "request_", "reply", "expected"),
    [
        (
            [Point("pulse_width", Register("holding", 12, "f32"))],
            "01 03 00 0C 00 02 04 08",
            "01 03 04 42 C8 00 00 6F B5",
            {"pulse_width": 100.0},
        ),
        (
            [Point("energy", Register("input", 4612, "u64", "GHEFCDAB"), scale=1e-05, decimals=5)],
            "01 04 12 04 00 04 B5 70",
            "01 04 08 CD 15 07 5B 00 00 00 00 C9 7F",
            {"energy": 1234.56789},
        ),
        (
            [Point("total", Register("holding", 20, "s32", "CDAB"))],
            "01 03 00 14 00 02 84 0F",
            "01 03 04 FF C8 FF FF 4A 69",
            {"total": -56},
        ),
        (
            [Point("inlet", Register("holding", 32, "f32", "CDAB"))],
            "01 03 00 20 00 02 C5 C1",
            "01 03 04 3C D0 40 E3 87 D3",
            {"inlet": 7.1011734},
        ),
        (
            [Point("totalizer", Register("holding", 3014, "f64"))],
            "01 03 0B C6 00 04 A6 10",
            "01 03 08 40 C8 1C D6 C8 B4 39 58 FE 49",
            {"totalizer": 12345.678},
        ),
        (
            [
                Point("speed", Register("holding", 0), scale=0.01, decimals=2),
                Point("direction", Register("holding", 1), scale=0.01, decimals=2),
            ],
            "01 03 00 00 00 02 C4 0B",
            "01 03 04 00 C1 60 AE 02 73",
            {"speed": 1.93, "direction": 247.5},
        ),
        (
            [Point("device_id", Register("holding", 40050, "string", length=8))],
            "05 03 9C 72 00 08 CB C3",
            "05 03 10 30 30 2E 31 36 34 38 30 2E 30 30 30 31 33 30 00 37 CA",
            {"device_id": "00.16480.000130"},
        ),
        (
            [
                Point("voltage", Register("input", 1, "f32")),
                Point("current", Register("input", 3, "f32")),
                Point("frequency", Register("input", 5, "f32")),
            ],
            "01 04 00 01 00 06 21 C8",
            "01 04 0C 43 6B 5A B4 42 DC 67 20 42 48 0C 63 AF 7C",
            {"voltage": 235.35431, "current": 110.201416, "frequency": 50.012096},
        ),
    ],
)
def test_golden_vectors(converse, points, request_, reply, expected):
    request, answer = bytes.fromhex(request_), bytes.fromhex(reply)
    driver = Modbus(request[0])
    assert driver.plan(points) == [tuple(points)]
    samples = converse(driver.poll(points, 0.0), [(request, answer)])
    assert {sample.point: sample.value for sample in samples} == expected
    assert all(sample.quality == "good" for sample in samples)


def test_a_sentinel_is_compared_before_scaling(converse):
    point = Point("temperature", Register("input", 31, "s16"), scale=0.1, decimals=1, sentinels=frozenset({32767}))
    request = bytes.fromhex("01 04 00 1F 00 01 00 0C")
    bad, good = bytes.fromhex("01 04 02 7F FF D9 40"), bytes.fromhex("01 04 02 00 FD 78 B1")
    driver = Modbus(1)
    assert converse(driver.poll((point,), 0.0), [(request, bad)]) == [Sample("temperature", None, "bad:sentinel")]
    assert converse(driver.poll((point,), 1.0), [(request, good)]) == [Sample("temperature", 25.3)]


def test_a_write_from_a_manual(converse):
    point = Point("minutes", Register("holding", 2014), unit="min")
    frame = bytes.fromhex("01 06 07 DE 00 05 28 87")
    assert converse(Modbus(1).write(point, 5), [(frame, frame)]) == [Sample("minutes", 5)]


# Samples --------------------------------------------------------------------------------------------------------------


def test_every_kind_of_point_in_one_request(device, point):
    points = [
        point("holding", 0, "bit", bit=2, name="door"),
        point("holding", 0, "bit", bit=3, name="lamp", scale=-1.0, offset=1.0),
        point("holding", 0, "bit", bit=3, name="valve", labels={0: "đóng", 1: "mở"}),
        point("holding", 0, "bits", bit=(4, 4), name="mode", labels={5: "auto"}),
        point("holding", 1, "u8hi", name="step"),
        point("holding", 1, "u8lo", name="strange", labels={1: "one"}),
        point("holding", 2, "string", length=2, name="model"),
        point("holding", 4, "string", length=1, name="broken"),
        point("holding", 5, "bcd", length=1, name="not_bcd"),
        point("holding", 6, "f32", name="nan"),
        point("holding", 8, name="high", high=5.0),
    ]
    meter = device(1, {0: 0x0054, 1: 0x0C07, 2: 0x4142, 3: 0x4300, 4: 0xFFFE, 5: 0x00AA, 6: 0x7FC0, 7: 0, 8: 6})
    samples = meter.talk(Modbus(1).poll(points, 0.0))
    assert len(meter.asked) == 1
    assert sorted(samples) == sorted(
        [
            Sample("door", True),
            Sample("lamp", True),
            Sample("valve", "đóng"),
            Sample("mode", "auto"),
            Sample("step", 12),
            Sample("strange", 7, "uncertain:range"),
            Sample("model", "ABC"),
            Sample("broken", None, "bad:decode"),
            Sample("not_bcd", None, "bad:decode"),
            Sample("nan", None, "bad:sentinel"),
            Sample("high", 6, "uncertain:range"),
        ]
    )
    assert [type(s.value) for s in samples if s.point in ("door", "lamp")] == [bool, bool]


def test_bits_of_both_tables(device, point):
    meter = device(1, bits={at: at % 3 == 0 for at in range(20)})
    points = [point("coil", 0), point("coil", 19), point("discrete", 3)]
    assert meter.talk(Modbus(1).poll(points, 0.0)) == [
        Sample("coil_0", True),
        Sample("coil_19", False),
        Sample("discrete_3", True),
    ]
    assert meter.asked == [(1, 0, 20), (2, 3, 1)]


# Exchanges ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("framing", "size"),
    [("rtu", 3 + 2 + 36), ("tcp", 7 + 2 + 36), ("ascii", 2 * (2 + 36) + 7)],
)
def test_an_exchange_says_what_it_is(framing, size, point):
    step = next(Modbus(5, framing).poll([point("input", at, "f32") for at in range(0, 18, 2)], 0.0))
    assert step.label == "unit 5: FC4 input 0..17 (18 registers)"
    assert step.reply_size == size
    assert not step.hold


@pytest.mark.parametrize("framing", ["rtu", "tcp", "ascii"])
def test_an_exchange_says_when_its_reply_may_be_the_request_itself(framing, point):
    driver = Modbus(5, framing)

    def mirrored(talk):
        step = next(talk)
        assert step.find is not None
        return step.mirrored

    for at, count, expected in ((0x0300, 24, True), (0x0300, 17, True), (0x0300, 25, False), (0x0200, 24, False)):
        assert mirrored(driver.read_raw("coil", at, count)) is expected
        assert mirrored(driver.read_raw("discrete", at, count)) is expected
    for count in range(1, 126):
        assert not mirrored(driver.read_raw("holding", 0x0400, count))
    assert mirrored(driver.write(point("coil", 1), True))
    assert mirrored(driver.write(point("holding", 1), 7))
    assert not mirrored(driver.write(point("holding", 1, "f32"), 7.0))
    assert mirrored(driver.diagnostics(0, b"\xa5\x37"))
    assert mirrored(driver.diagnostics(11))  # a counter of zero
    assert mirrored(driver.mask_write(4, 0xF2, 0x25))
    assert mirrored(driver.write_file(4, 7, b"\0\1"))
    for talk in (
        driver.identify(),
        driver.fifo(1),
        driver.server_id(),
        driver.exception_status(),
        driver.read_file(1, 0, 1),
    ):
        assert not mirrored(talk)


def test_labels_of_small_requests(point):
    assert next(Modbus(5).poll([point("coil", 9)], 0.0)).label == "unit 5: FC1 coil 9 (1 bit)"
    assert next(Modbus(5).poll([point("discrete", 8), point("discrete", 9)], 0.0)).label.endswith("8..9 (2 bits)")
    assert next(Modbus(5).write(point("holding", 9), 1)).label == "unit 5: FC6 write holding 9"


def test_every_request_over_tcp_has_its_own_number(point):
    driver = Modbus(5, "tcp")
    points = (point("input", 0),)
    steps = [next(driver.poll(points, 0.0)) for _ in range(3)]
    assert len({step.request[:2] for step in steps}) == 3
    late = steps[0].request[:4] + bytes.fromhex("0005 05 04 02 0001")
    assert steps[0].find(late) is not None
    assert steps[1].find(late).size == len(late)


def test_transaction_numbers_start_again_after_65535(point):
    driver = Modbus(5, "tcp")
    points = (point("input", 0),)
    numbers = [int.from_bytes(next(driver.poll(points, 0.0)).request[:2], "big") for _ in range(65537)]
    assert max(numbers) == 65535
    assert len(set(numbers)) == 65536


def test_the_table_of_drivers_knows_it(device, point):
    driver = create("modbus", unit=1, framing="rtu", max_registers=10, forbidden=[["holding", 3, 2]])
    assert len(driver.plan([point("holding", 0), point("holding", 8)])) == 2
    assert device(1, {0: 7}).talk(driver.poll([point("holding", 0)], 0.0)) == [Sample("holding_0", 7)]


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({"framing": "udp"}, "framing 'udp' is unknown: use rtu, tcp, ascii"),
        ({"unit": 256}, "unit 256 is outside 0..255"),
        ({"max_registers": 126}, "max_registers 126 is outside 1..125"),
        ({"max_bits": 0}, "max_bits 0 is outside 1..2000"),
        ({"forbidden": [("register", 0, 1)]}, "table 'register' is unknown"),
    ],
)
def test_options_that_make_no_sense(facts, text):
    with pytest.raises(ValueError, match=text):
        Modbus(**{"unit": 1, **facts})


def test_the_cache_of_plans_is_bounded_and_right(device, point):
    meter = device(1, {at: at for at in range(600)})
    driver = Modbus(1, max_registers=1)
    points = [point("holding", at) for at in range(600)]
    for _ in range(2):
        for one in points:
            assert meter.talk(driver.poll([one], 0.0)) == [Sample(one.name, one.where.at)]
    assert len(driver._plans) <= 256
