"""The worked examples of the Modbus Application Protocol 1.1b3, section 6, and pymodbus' server side as a peer."""

from __future__ import annotations

import pytest
from pymodbus.pdu import DecodePDU

from drivers.base import BadFrame
from drivers.modbus import pdu
from drivers.modbus.register import Register
from drivers.modbus.reply import Reply, pdu_length, reply_to
from drivers.modbus.values import decode, reader


@pytest.mark.parametrize(
    ("table", "first", "count", "request_", "reply"),
    [
        ("coil", 19, 19, "01 00 13 00 13", "01 03 CD 6B 05"),
        ("discrete", 196, 22, "02 00 C4 00 16", "02 03 AC DB 35"),
        ("holding", 107, 3, "03 00 6B 00 03", "03 06 02 2B 00 00 00 64"),
        ("input", 8, 1, "04 00 08 00 01", "04 02 00 0A"),
    ],
)
def test_reads(table, first, count, request_, reply):
    request = pdu.read(table, first, count)
    assert request == bytes.fromhex(request_)
    expected = reply_to(request)
    data = bytes.fromhex(reply)
    assert data.startswith(expected.head)
    assert len(data) == expected.size


def test_the_values_in_the_examples():
    coils = bytes.fromhex("01 03 CD 6B 05")
    assert [reader(Register("coil", at), 19, 2)(coils) for at in range(19, 27)] == [
        *(True, False, True, True),
        *(False, False, True, True),
    ]
    assert reader(Register("coil", 37), 19, 2)(coils) is True
    assert decode(Register("holding", 107), bytes.fromhex("02 2B")) == 555
    assert decode(Register("input", 8), bytes.fromhex("00 0A")) == 10


@pytest.mark.parametrize(
    ("request_", "expected", "reply"),
    [
        (pdu.write_coil(172, True), "05 00 AC FF 00", "05 00 AC FF 00"),
        (pdu.write_coil(172, False), "05 00 AC 00 00", "05 00 AC 00 00"),
        (pdu.write_register(1, b"\0\3"), "06 00 01 00 03", "06 00 01 00 03"),
        (
            pdu.write_coils(19, [bit == "1" for bit in "1011001110"]),
            "0F 00 13 00 0A 02 CD 01",
            "0F 00 13 00 0A",
        ),
        (pdu.write_registers(1, b"\0\x0a\1\2"), "10 00 01 00 02 04 00 0A 01 02", "10 00 01 00 02"),
    ],
)
def test_writes(request_, expected, reply):
    assert request_ == bytes.fromhex(expected)
    assert reply_to(request_) == Reply(bytes.fromhex(reply), 5)


def test_more_registers_than_one_request_takes():
    with pytest.raises(ValueError, match="124 registers cannot be written at once: the most is 123"):
        pdu.write_registers(0, bytes(248))


def test_exceptions():
    assert pdu.exception(bytes.fromhex("81 02")) == 2
    assert pdu.exception(bytes.fromhex("01 01 00")) is None
    with pytest.raises(BadFrame, match="without a code"):
        pdu.exception(b"\x81")


def test_a_refusal_says_what_and_why():
    error = pdu.refused("unit 5: FC4 input 0", 2)
    assert error.code == 2
    assert "unit 5: FC4 input 0" in str(error)
    assert "no such register" in str(error)
    assert "manual" in str(pdu.refused("x", 77))


def test_the_peer_understands_what_is_asked():
    server = DecodePDU(is_server=True)
    asked = server.decode(pdu.write_registers(7, bytes.fromhex("0001FFFF")))
    assert (asked.address, asked.registers) == (7, [1, 65535])
    asked = server.decode(pdu.write_coils(7, [True, False, True]))
    assert (asked.address, list(asked.bits)) == (7, [True, False, True])
    asked = server.decode(pdu.read("input", 9, 4))
    assert (asked.function_code, asked.address, asked.count) == (4, 9, 4)


@pytest.mark.parametrize(
    ("request_", "expected", "reply"),
    [
        (pdu.exception_status(), "07", "07 6D"),
        (pdu.diagnostics(0, b"\xa5\x37"), "08 00 00 A5 37", "08 00 00 A5 37"),
        (pdu.diagnostics(11, b"\0\0"), "08 00 0B 00 00", "08 00 0B 12 34"),
        (pdu.comm_event_counter(), "0B", "0B FF FF 01 08"),
        (pdu.comm_event_log(), "0C", "0C 08 00 00 01 08 01 21 20 00"),
        (pdu.server_id(), "11", "11 03 42 FF 01"),
        (pdu.read_file(4, 1, 2), "14 07 06 00 04 00 01 00 02", "14 06 05 06 0D FE 00 20"),
        (
            pdu.write_file(4, 7, bytes.fromhex("06AF04BE100D")),
            "15 0D 06 00 04 00 07 00 03 06 AF 04 BE 10 0D",
            "15 0D 06 00 04 00 07 00 03 06 AF 04 BE 10 0D",
        ),
        (pdu.mask_write(4, 0xF2, 0x25), "16 00 04 00 F2 00 25", "16 00 04 00 F2 00 25"),
        (
            pdu.read_write(3, 6, 14, bytes.fromhex("00FF00FF00FF")),
            "17 00 03 00 06 00 0E 00 03 06 00 FF 00 FF 00 FF",
            "17 0C 00 FE 0A CD 00 01 00 03 00 0D 00 FF",
        ),
        (pdu.fifo(0x04DE), "18 04 DE", "18 00 06 00 02 01 B8 12 84"),
        (
            pdu.identification(1, 0),
            "2B 0E 01 00",
            "2B 0E 01 01 00 00 03 "
            + ("00 16" + b"Company identification".hex())
            + ("01 0F" + b"Product code XX".hex())
            + ("02 05" + b"V2.11".hex()),
        ),
    ],
)
def test_the_other_functions(request_, expected, reply):
    """Sections 6.7 to 6.21. 6.14 asks for two groups at once; this is its first."""
    assert request_ == bytes.fromhex(expected)
    assert reply_to(request_).fits(bytes.fromhex(reply))
    assert pdu_length(bytes.fromhex(reply)) == len(bytes.fromhex(reply))


@pytest.mark.parametrize(
    "nonsense", ["18 00 07 00 02 01 B8 12 84", "18 00 42 00 20", "2B 0D 00 00 00 00 00", "63 01", "2B 0D"]
)
def test_what_is_no_reply_has_no_length(nonsense):
    assert pdu_length(bytes.fromhex(nonsense)) == 0


def test_an_identification_that_is_too_long_is_none():
    reply = bytes.fromhex("2B 0E 01 01 00 00 02 00 FF") + bytes(255) + b"\1\1a"
    assert pdu_length(reply) == 0
    assert not reply_to(pdu.identification(1, 0)).fits(bytes.fromhex("2B 0E 01 01 00 00 01 00 FF") + bytes(255))


@pytest.mark.parametrize(("sub", "data"), [(-1, b"\0\0"), (65536, b"\0\0"), (0, b""), (0, b"\0"), (0, bytes(252))])
def test_diagnostics_that_make_no_sense(sub, data):
    with pytest.raises(ValueError, match="diagnostic"):
        pdu.diagnostics(sub, data)
