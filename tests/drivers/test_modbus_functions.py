"""The functions beside reading and writing points: the specification's examples as conversations."""

from __future__ import annotations

import pytest

from drivers.base import BadFrame, Exchange, NoReply, Refused
from drivers.modbus.driver import Modbus
from drivers.modbus.functions import Functions
from drivers.modbus.unit import Unit


@pytest.fixture
def ask(receive, rtu):
    """ask(talk, (request, reply), ...) in PDUs of unit 5: the result."""

    def play(talk, *script):
        frame = None
        for request, reply in script:
            step = next(talk) if frame is None else talk.send(frame)
            assert isinstance(step, Exchange)
            assert step.request == rtu(5, request)
            frame, _ = receive(step.find, rtu(5, reply)) if step.find else (b"", 0)
            assert frame is not None, f"{reply} does not answer {step.label}"
        with pytest.raises(StopIteration) as end:
            talk.send(frame)
        return end.value.value

    return play


@pytest.fixture
def driver():
    return Modbus(5)


def test_they_need_no_driver(ask):
    assert ask(Functions(Unit(5)).exception_status(), ("07", "07 6D")) == 0x6D


def test_diagnostics(ask, driver):
    assert ask(driver.diagnostics(0, b"\xa5\x37"), ("08 00 00 A5 37", "08 00 00 A5 37")) == b"\xa5\x37"
    assert ask(driver.diagnostics(2), ("08 00 02 00 00", "08 00 02 12 34")) == b"\x12\x34"
    assert ask(driver.diagnostics(0, b"abcd"), ("08 00 00 61 62 63 64", "08 00 00 61 62 63 64")) == b"abcd"
    step = next(driver.diagnostics(4))
    assert step.find is None
    assert step.min_wait == 0.0
    assert ask(driver.diagnostics(4), ("08 00 04 00 00", "")) == b""


def test_events(ask, driver):
    assert ask(driver.comm_event_counter(), ("0B", "0B FF FF 01 08")) == (0xFFFF, 264)
    assert ask(driver.comm_event_log(), ("0C", "0C 08 00 00 01 08 01 21 20 00")) == (0, 264, 289, b"\x20\0")
    with pytest.raises(BadFrame, match="without its counters"):
        ask(driver.comm_event_log(), ("0C", "0C 02 00 00"))


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("11 02 42 FF", (b"\x42\xff", True)),
        ("11 05 42 00 31 2E 30", (b"\x42\x001.0", False)),
        ("11 05 57 42 31 32 FF", (b"WB12\xff", True)),
        ("11 03 57 42 31", (b"WB1", None)),
        ("11 01 FF", (b"\xff", True)),
        ("11 00", (b"", None)),
    ],
)
def test_server_id(ask, driver, reply, expected):
    assert ask(driver.server_id(), ("11", reply)) == expected


def test_files(ask, driver):
    reply = "14 06 05 06 0D FE 00 20"
    assert ask(driver.read_file(4, 1, 2), ("14 07 06 00 04 00 01 00 02", reply)) == bytes.fromhex("0DFE0020")
    write = "15 0D 06 00 04 00 07 00 03 06 AF 04 BE 10 0D"
    assert ask(driver.write_file(4, 7, bytes.fromhex("06AF04BE100D")), (write, write)) is None
    assert len(next(driver.read_file(1, 0, 124)).request) < 256
    assert next(driver.read_file(1, 0, 124)).reply_size <= 256
    assert len(next(driver.write_file(1, 0, bytes(244))).request) <= 256


def test_registers(ask, driver):
    mask = "16 00 04 00 F2 00 25"
    assert ask(driver.mask_write(4, 0xF2, 0x25), (mask, mask)) is None
    request = "17 00 03 00 06 00 0E 00 03 06 00 FF 00 FF 00 FF"
    reply = "17 0C 00 FE 0A CD 00 01 00 03 00 0D 00 FF"
    assert ask(driver.read_write(3, 6, 14, b"\0\xff" * 3), (request, reply)) == bytes.fromhex(reply)[2:]
    assert ask(driver.fifo(0x04DE), ("18 04 DE", "18 00 06 00 02 01 B8 12 84")) == [440, 4740]
    assert ask(driver.fifo(0x04DE), ("18 04 DE", "18 00 02 00 00")) == []


def test_raw_reads(ask, driver):
    assert ask(driver.read_raw("coil", 19, 19), ("01 0013 0013", "01 03 CD 6B 05")) == b"\xcd\x6b\5"
    assert ask(driver.read_raw("input", 8, 1), ("04 0008 0001", "04 02 000A")) == b"\0\x0a"
    assert next(driver.read_raw("holding", 65411, 125)).reply_size == 255


def test_a_refusal_names_the_request(ask, driver):
    for talk, request, reply in (
        (driver.read_raw("input", 8, 1), "04 0008 0001", "84 02"),
        (driver.fifo(9), "18 00 09", "98 02"),
    ):
        with pytest.raises(Refused, match=r"unit 5: FC.* refused with exception 2") as error:
            ask(talk, (request, reply))
        assert error.value.code == 2


@pytest.mark.parametrize("error", [NoReply, BadFrame])
def test_a_failure_goes_to_the_caller(driver, error):
    talk = driver.fifo(9)
    next(talk)
    with pytest.raises(error):
        talk.throw(error())


@pytest.mark.parametrize(
    "call",
    [
        lambda d: d.read_raw("holding", 0, 126),
        lambda d: d.read_raw("coil", 65535, 2),
        lambda d: d.read_raw("register", 0, 1),
        lambda d: d.diagnostics(0, b"\0"),
        lambda d: d.read_file(0, 0, 1),
        lambda d: d.read_file(1, 10000, 1),
        lambda d: d.read_file(1, 0, 125),
        lambda d: d.write_file(1, 0, b"\0"),
        lambda d: d.write_file(1, 0, bytes(246)),
        lambda d: d.mask_write(65536, 0, 0),
        lambda d: d.mask_write(0, -1, 0),
        lambda d: d.read_write(0, 126, 0, b"\0\0"),
        lambda d: d.read_write(0, 1, 0, bytes(244)),
        lambda d: d.read_write(65535, 2, 0, b"\0\0"),
        lambda d: d.read_write(0, 1, 0, b""),
        lambda d: d.fifo(65536),
    ],
)
def test_requests_that_make_no_sense_are_not_sent(driver, call):
    with pytest.raises(ValueError, match=r"\d"):
        next(call(driver))


# Identification -------------------------------------------------------------------------------------------------------


def objects(*texts, first=0, category=1, level=1, following=None):
    """The PDU of an identification reply."""
    body = b"".join(bytes((first + n, len(text))) + text.encode() for n, text in enumerate(texts))
    more = (0, 0) if following is None else (0xFF, following)
    return bytes((0x2B, 0x0E, category, level, *more, len(texts))) + body


def test_identification_of_the_specification(ask, driver):
    reply = objects("Company identification", "Product code XX", "V2.11")
    expected = {"vendor": "Company identification", "product": "Product code XX", "revision": "V2.11"}
    assert ask(driver.identify(), ("2B 0E 01 00", reply)) == expected


def test_an_identification_in_two_transactions(ask, driver):
    """Section 6.21: the last object does not fit the first reply."""
    first, second = objects("Company", "Product", following=2), objects("V2.11", first=2)
    assert ask(driver.identify(), ("2B 0E 01 00", first), ("2B 0E 01 02", second)) == {
        "vendor": "Company",
        "product": "Product",
        "revision": "V2.11",
    }


@pytest.mark.parametrize("level", [0x02, 0x03, 0x82, 0x83])
def test_the_regular_category_is_read_when_there_is_one(ask, driver, level):
    basic = objects("A", "B", "1", level=level)
    regular = objects("http://a", "", "M 1 ", "app", "reserved", first=3, category=2, level=level)
    assert ask(driver.identify(), ("2B 0E 01 00", basic), ("2B 0E 02 03", regular)) == {
        "vendor": "A",
        "product": "B",
        "revision": "1",
        "url": "http://a",
        "model": "M 1",
        "application": "app",
    }
    assert ask(driver.identify(), ("2B 0E 01 00", basic), ("2B 0E 02 03", "AB 02"))["vendor"] == "A"


def test_a_device_without_identification(ask, driver):
    assert ask(driver.identify(), ("2B 0E 01 00", "AB 01")) == {}
    with pytest.raises(Refused, match="busy"):
        ask(driver.identify(), ("2B 0E 01 00", "AB 06"))


def test_an_identification_without_end_ends(rtu):
    talk = Modbus(5).identify()
    endless = rtu(5, objects("A", level=2, following=0))
    next(talk)
    for _ in range(15):
        talk.send(endless)
    with pytest.raises(StopIteration) as end:
        talk.send(endless)
    assert end.value.value == {"vendor": "A"}


def test_text_that_is_no_text_is_still_shown(ask, driver):
    reply = bytes.fromhex("2B 0E 01 01 00 00 01 00 03 41 FF 00")
    assert ask(driver.identify(), ("2B 0E 01 00", reply)) == {"vendor": "A\ufffd"}
