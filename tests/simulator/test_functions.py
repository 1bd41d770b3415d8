"""Diagnostics, identification, files and the rarer register functions: byte by byte, and asked by pymodbus."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.pdu.file_message import FileRecord

from gateway.simulator import Simulator, about
from gateway.simulator.answer import answer
from gateway.simulator.image import Image, layout_of
from gateway.simulator.pdu import Memory, Tally

OBJECTS = {0: b"Simulated", 1: b"m-1", 2: b"1.0", 3: b"", 4: b"m-1", 5: b"m-1", 6: b"cabinet", 0x80: b"own"}


@pytest.fixture
def image(point) -> Image:
    layout = layout_of(point(f"r{i}", "holding", i, writable=i < 8) for i in range(9))
    return Image(layout, (bytes.fromhex("0000 0000 0000 0000 0012 0000 0000 0000 0000"),))


TALLY = Tally(mark=100, served=9, exceptions=2, unanswered=1, refused=3, busy=4, events=7, status=0x22, log=b"\x40\x80")


@pytest.mark.parametrize(
    ("request_pdu", "reply"),
    [
        ("07", "07 22"),
        ("08 0000 a537", "08 00 00 a5 37"),  # V1.1b3, 6.8
        ("08 0000 a537 1122", "08 00 00 a5 37 11 22"),
        ("08 0001 0000", "08 00 01 00 00"),
        ("08 0001 ff00", "08 00 01 ff 00"),
        ("08 0001 0100", "88 03"),
        ("08 0002 0000", "08 00 02 00 22"),
        ("08 0004 0000", "88 01"),
        ("08 000a 0000", "08 00 0a 00 00"),
        ("08 000b 0000", "08 00 0b 00 17"),
        ("08 000c 0000", "08 00 0c 00 00"),
        ("08 000d 0000", "08 00 0d 00 02"),
        ("08 000e 0000", "08 00 0e 00 09"),
        ("08 000f 0000", "08 00 0f 00 01"),
        ("08 0010 0000", "08 00 10 00 03"),
        ("08 0011 0000", "08 00 11 00 04"),
        ("08 0012 0000", "08 00 12 00 00"),
        ("08 000b 0001", "88 03"),
        ("08 0013 0000", "88 01"),
        ("08 0014 0000", "08 00 14 00 00"),
        ("08 0000", "88 03"),
        ("08 0000 01", "88 03"),
        ("0b", "0b 00 00 00 07"),
        ("0c", "0c 08 00 00 00 07 00 17 40 80"),
        ("11", "11 16 53 69 6d 75 6c 61 74 65 64 20 6d 2d 31 20 63 61 62 69 6e 65 74 ff"),
        ("14 07 06 0004 0001 0002", "14 06 05 06 0d fe 00 20"),  # the group of V1.1b3, 6.14, as it was written
        ("14 0e 06 0004 0001 0002 06 0003 0009 0002", "14 0c 05 06 0d fe 00 20 05 06 03 09 03 0a"),
        ("14 07 06 0004 00ff 0002", "94 02"),
        ("14 07 06 0005 0000 0001", "94 02"),
        ("14 07 06 0001 0000 0000", "94 02"),
        ("14 07 07 0001 0000 0001", "94 02"),
        ("14 07 06 0001 0000 007b", "94 02"),  # 246 bytes of data do not fit
        ("14 06 06 0004 0001 00", "94 03"),
        ("14 08 06 0004 0001 0002", "94 03"),
        ("14 00", "94 03"),
        ("14", "94 03"),
        ("15 0d 06 0004 0007 0003 06af 04be 100d", "15 0d 06 00 04 00 07 00 03 06 af 04 be 10 0d"),  # 6.15
        ("15 0d 06 0005 0007 0003 06af 04be 100d", "95 02"),
        ("15 09 06 0004 0007 0003 06af", "95 03"),
        ("15 07 06 0004 0007 0000", "95 03"),
        ("15", "95 03"),
        ("16 0004 00f2 0025", "16 00 04 00 f2 00 25"),  # 6.16
        ("16 0008 00f2 0025", "96 02"),
        ("16 0009 00f2 0025", "96 02"),
        ("16 0004 00f2", "96 03"),
        ("17 0003 0003 0004 0003 06 00ff 00ee 00dd", "17 06 00 00 00 ff 00 ee"),
        ("17 0003 0007 0004 0001 02 00ff", "97 02"),
        ("17 0003 0001 0008 0001 02 00ff", "97 02"),
        ("17 0003 0001 0004 0001 04 00ff", "97 03"),
        ("17 0003 0000 0004 0001 02 00ff", "97 03"),
        ("17 0003 0001", "97 03"),
        ("18 04de", "18 00 06 00 02 01 b8 12 84"),  # 6.18
        ("18 04df", "98 02"),
        ("18 04", "98 03"),
        ("2b 0e 04 01", "2b 0e 04 83 00 00 01 01 03 6d 2d 31"),
        ("2b 0e 04 07", "ab 02"),
        ("2b 0e 05 00", "ab 03"),
        ("2b 0e 01", "ab 03"),
        ("2b 0d 01 00", "ab 01"),
        ("2b", "ab 01"),
        ("2b 0e 01 02", "2b 0e 01 83 00 00 01 02 03 31 2e 30"),
    ],
)
def test_a_device_answers_as_the_specification_says(image, request_pdu, reply):
    written = {(4, 1): b"\x0d\xfe", (4, 2): b"\x00\x20"}
    memory = Memory(OBJECTS, written, TALLY, messages=123)
    assert answer(bytes.fromhex(request_pdu), image, memory).pdu.hex(" ") == reply


def test_a_mask_and_a_read_write_change_the_registers(image):
    write = answer(bytes.fromhex("16 0004 00f2 0025"), image).write
    assert image.written(write).read("holding", 4, 1) == b"\x00\x17"  # V1.1b3, 6.16: 0x12 becomes 0x17
    write = answer(bytes.fromhex("17 0000 0001 0004 0002 04 00ff 00ee"), image).write
    assert image.written(write).read("holding", 4, 2).hex() == "00ff00ee"


def test_file_records_are_written_all_or_none(image):
    good, bad = "06 0001 0000 0001 1234", "06 0009 0000 0001 1234"
    assert answer(bytes.fromhex(f"15 09 {good}"), image).records == {(1, 0): b"\x12\x34"}
    assert answer(bytes.fromhex(f"15 12 {good} {bad}"), image).records is None


def test_most_devices_do_not_say_who_they_are(image):
    assert answer(b"\x11", image).pdu == b"\x91\x01"
    assert answer(b"\x2b\x0e\x01\x00", image).pdu == b"\xab\x01"


def identification(objects, code, first):
    """(object ids, what follows) of one reply."""
    image = Image(layout_of([]), ())
    pdu = answer(bytes((0x2B, 0x0E, code, first)), image, Memory(objects)).pdu
    assert len(pdu) <= 253
    ids, at = [], 7
    while at < len(pdu):
        ids.append(pdu[at])
        at += 2 + pdu[at + 1]
    assert pdu[6] == len(ids)
    return ids, pdu[5] if pdu[4] == 0xFF else None


def test_basic_regular_and_extended_identification():
    assert identification(OBJECTS, 1, 0) == ([0, 1, 2], None)
    assert identification(OBJECTS, 2, 0) == ([0, 1, 2, 3, 4, 5, 6], None)
    assert identification(OBJECTS, 3, 0) == ([0, 1, 2, 3, 4, 5, 6, 0x80], None)
    assert identification(OBJECTS, 2, 5) == ([5, 6], None)
    assert identification(OBJECTS, 1, 99) == ([0, 1, 2], None)


def test_what_does_not_fit_follows():
    long = OBJECTS | {1: b"x" * 244, 4: b"y" * 200, 5: b"z" * 60}
    seen, first = [], 0
    while first is not None:
        ids, first = identification(long, 3, first)
        seen.append(ids)
    assert seen == [[0], [1], [2, 3, 4], [5, 6, 0x80]]


@pytest.mark.parametrize(
    ("request_pdu", "reply", "changes"),
    [
        ("03", "03 02 0001", {"events": 1, "log": b"\x40\x80"}),
        ("0b", "0b 0000 0000", {"events": 0, "log": b"\x40\x80"}),
        ("03", "83 02", {"exceptions": 1, "status": 0x02, "log": b"\x41\x80"}),
        ("03", "83 04", {"exceptions": 1, "status": 0x08, "log": b"\x42\x80"}),
        ("03", "83 05", {"exceptions": 1, "status": 0x10, "log": b"\x44\x80"}),
        ("03", "83 06", {"exceptions": 1, "status": 0x20, "busy": 1, "log": b"\x44\x80"}),
        ("03", "83 07", {"exceptions": 1, "status": 0x40, "refused": 1, "log": b"\x48\x80"}),
        ("03", "83 0b", {"exceptions": 1, "log": b"\x40\x80"}),
    ],
)
def test_a_device_counts_what_it_answers(request_pdu, reply, changes):
    tally = about.counted(Tally(), bytes.fromhex(request_pdu), bytes.fromhex(reply))
    assert tally == Tally(served=1)._replace(**changes)


def test_a_broadcast_counts_as_unanswered_and_the_log_is_bounded():
    tally = about.counted(Tally(), b"\x06", b"\x06", broadcast=True)
    assert tally == Tally(served=1, unanswered=1, events=1, log=b"\xc0")
    for _ in range(100):
        tally = about.counted(tally, b"\x06", b"\x06")
    assert len(tally.log) == 64


@pytest.mark.parametrize(("data", "log"), [("0000", b"\0\x40\x80"), ("ff00", b"\0")])
def test_a_restart_clears_the_counters(image, data, log):
    memory = Memory(tally=TALLY, messages=500)
    assert answer(bytes.fromhex(f"08 0001 {data}"), image, memory).tally == Tally(mark=500, log=log)


def test_clearing_the_counters_keeps_the_log(image):
    memory = Memory(tally=TALLY, messages=500)
    assert answer(bytes.fromhex("08 000a 0000"), image, memory).tally == Tally(mark=500, log=TALLY.log)


@pytest.fixture
def client(tcp_site, serving, point):
    """pymodbus in front of a meter that says who it is (unit 1) and one that does not (unit 2)."""

    @asynccontextmanager
    async def connect(*faults: str) -> AsyncIterator[tuple[AsyncModbusTcpClient, Simulator]]:
        points = tuple(point(f"r{i}", "holding", i, kind="config", writable=True) for i in range(8))
        site = tcp_site(meter=(1, points), other=(2, points))
        first, second = site.buses[0].devices
        devices = (replace(first, identify=True, profile="acme-m1"), second)
        simulator = Simulator(
            replace(site, buses=(replace(site.buses[0], devices=devices),)),
            faults={"meter": faults} if faults else None,
        )
        async with serving(simulator) as address:
            host, _, port = address.rpartition(":")
            client = AsyncModbusTcpClient(host, port=int(port), timeout=5)
            assert await client.connect()
            try:
                yield client, simulator
            finally:
                client.close()

    return connect


async def test_pymodbus_reads_the_diagnostics(client):
    async with client() as (peer, _):
        assert (await peer.diag_query_data(b"\xa5\x37", device_id=1)).message == b"\xa5\x37"
        assert (await peer.read_holding_registers(900, count=1, device_id=1)).exception_code == 2
        assert (await peer.read_exception_status(device_id=1)).status == 0b10
        assert (await peer.diag_read_diagnostic_register(device_id=1)).message == 0b10
        await peer.read_holding_registers(0, count=1, device_id=2)
        assert (await peer.diag_read_bus_message_count(device_id=1)).message == 6
        assert (await peer.diag_read_bus_comm_error_count(device_id=1)).message == 0
        assert (await peer.diag_read_bus_exception_error_count(device_id=1)).message == 1
        assert (await peer.diag_read_device_message_count(device_id=1)).message == 7
        for ask in (
            peer.diag_read_device_no_response_count,
            peer.diag_read_device_nak_count,
            peer.diag_read_device_busy_count,
            peer.diag_read_bus_char_overrun_count,
        ):
            assert (await ask(device_id=1)).message == 0
        assert not (await peer.diag_clear_overrun_counter(device_id=1)).isError()
        events = await peer.diag_get_comm_event_counter(device_id=1)
        assert (events.status, events.count) == (True, 12)
        log = await peer.diag_get_comm_event_log(device_id=1)
        assert (log.status, log.event_count, log.message_count) == (True, 12, 16)
        assert len(log.events) == 28
        assert log.events.count(0x41) == 1
        assert not (await peer.diag_clear_counters(device_id=1)).isError()
        assert (await peer.diag_read_bus_message_count(device_id=1)).message == 1
        assert not (await peer.diag_restart_communication(True, device_id=1)).isError()


async def test_pymodbus_reads_and_writes_records_and_registers(client):
    async with client() as (peer, simulator):
        record = FileRecord(file_number=2, record_number=7, record_data=b"\x12\x34\x56\x78")
        assert not (await peer.write_file_record([record], device_id=1)).isError()
        asked = [FileRecord(file_number=2, record_number=6, record_length=6)]
        (found,) = (await peer.read_file_record(asked, device_id=1)).records
        assert found.record_data == b"\x02\x06\x12\x34\x56\x78"
        (found,) = (await peer.read_file_record(asked, device_id=2)).records
        assert found.record_data == b"\x02\x06\x02\x07\x02\x08"
        await peer.write_register(4, 0x12, device_id=1)
        await peer.mask_write_register(address=4, and_mask=0xF2, or_mask=0x25, device_id=1)
        both = await peer.readwrite_registers(read_address=4, read_count=2, write_address=5, values=[7, 8], device_id=1)
        assert both.registers == [0x17, 7]
        assert simulator.held("meter", "r6", 2**62) == (8,)
        assert (await peer.read_fifo_queue(address=1246, device_id=1)).values == [440, 4740]


async def test_pymodbus_reads_who_it_is(client):
    async with client() as (peer, simulator):
        told = await peer.read_device_information(read_code=1, object_id=0, device_id=1)
        assert told.information == {0: b"Simulated", 1: b"acme-m1", 2: b"1.0"}
        assert told.conformity == 0x83
        told = await peer.read_device_information(read_code=2, object_id=0, device_id=1)
        assert list(told.information) == [0, 1, 2, 3, 4, 5, 6]
        told = await peer.read_device_information(read_code=4, object_id=6, device_id=1)
        assert told.information == {6: b"meter"}
        named = await peer.report_device_id(device_id=1)
        assert named.identifier == b"Simulated acme-m1 meter"
        assert named.status
        assert (await peer.report_device_id(device_id=2)).exception_code == 1
        assert (await peer.read_device_information(device_id=2)).exception_code == 1
        simulator.afflict("meter", ['identity product="acme m2" revision=2.0'])
        simulator.afflict("other", ["identity vendor=ACME"])
        told = await peer.read_device_information(read_code=1, object_id=0, device_id=1)
        assert told.information == {0: b"Simulated", 1: b"acme m2", 2: b"2.0"}
        told = await peer.read_device_information(read_code=1, object_id=0, device_id=2)
        assert told.information == {0: b"ACME", 1: b"device", 2: b"1.0"}


async def test_pymodbus_follows_a_long_identification(client):
    async with client(f"identity product={'x' * 240}") as (peer, _):
        told = await peer.read_device_information(read_code=1, object_id=0, device_id=1)
        assert (told.more_follows, told.next_object_id) == (0xFF, 1)
        told = await peer.read_device_information(read_code=1, object_id=1, device_id=1)
        assert told.information == {1: b"x" * 240}
