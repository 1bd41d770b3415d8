from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pymodbus.framer.ascii import FramerAscii
from pymodbus.framer.rtu import FramerRTU
from pymodbus.framer.socket import FramerSocket
from pymodbus.pdu import DecodePDU

from drivers.base import Frame, Reject
from drivers.modbus import pdu
from drivers.modbus.adu import FRAMINGS, Reply, crc16, lrc

PEERS = {"rtu": FramerRTU, "tcp": FramerSocket, "ascii": FramerAscii}
UNITS = st.integers(1, 247)
WRITES = [
    pdu.write_coil(172, True),
    pdu.write_register(1, b"\0\3"),
    pdu.write_coils(19, [True] * 10),
    pdu.write_registers(1, b"\0\x0a\1\2"),
]


@st.composite
def exchanges(draw):
    """(request PDU, what is expected, a good reply PDU)."""
    if draw(st.booleans()):
        request = draw(st.sampled_from(WRITES))
        return request, pdu.write_reply(request), request[:5]
    table = draw(st.sampled_from(["coil", "discrete", "holding", "input"]))
    request = pdu.read(table, draw(st.integers(0, 65000)), draw(st.integers(1, 125)))
    reply = pdu.read_reply(table, request)
    data = draw(st.binary(min_size=reply.size - 2, max_size=reply.size - 2))
    return request, reply, reply.head + data


def prepare(framing, unit, request, reply, transaction=7):
    """(find, request frame)."""
    frame = FRAMINGS[framing].wrap(unit, transaction, request)
    return FRAMINGS[framing].find(unit, frame, reply), frame


# Figures of others ----------------------------------------------------------------------------------------------------


def test_checksums_of_the_specification():
    assert crc16(bytes.fromhex("02 07")) == 0x1241
    assert crc16(bytes.fromhex("02 07 41 12")) == 0
    assert lrc(bytes.fromhex("01 03 00 00 00 0A")) == 0xF2


def test_known_frames():
    read = pdu.read("holding", 0, 10)
    assert FRAMINGS["ascii"].wrap(1, 0, read) == b":01030000000AF2\r\n"
    assert FRAMINGS["rtu"].wrap(1, 0, pdu.read("holding", 12, 2)) == bytes.fromhex("01 03 00 0C 00 02 04 08")
    assert FRAMINGS["tcp"].wrap(17, 1, pdu.read("holding", 107, 3)) == bytes.fromhex("0001 0000 0006 11 03 006B 0003")


@given(st.sampled_from(list(FRAMINGS)), UNITS, st.integers(0, 65535), exchanges())
def test_frames_are_those_of_the_peer(framing, unit, transaction, exchange):
    request, _, good = exchange
    peer = PEERS[framing](DecodePDU(is_server=False))
    for body in (request, good):
        frame = FRAMINGS[framing].wrap(unit, transaction, body)
        assert frame == peer.encode(body, unit, transaction)
        assert FRAMINGS[framing].unwrap(frame) == body
        assert FRAMINGS[framing].size(len(body)) == len(frame)


# What is taken --------------------------------------------------------------------------------------------------------


@given(st.sampled_from(list(FRAMINGS)), UNITS, exchanges(), st.booleans())
def test_the_reply_is_taken_whole_and_never_early(framing, unit, exchange, refused):
    request, reply, good = exchange
    answer = bytes((request[0] | 0x80, 2)) if refused else good
    find, asked = prepare(framing, unit, request, reply)
    wire = FRAMINGS[framing].wrap(unit, 7, answer)
    assume(wire != asked or request in WRITES[:2])
    for cut in range(len(wire)):
        assert not isinstance(find(wire[:cut]), Frame)
    assert find(wire) == Frame(0, len(wire))
    assert find(bytearray(wire) + b"noise") == Frame(0, len(wire))


@given(st.sampled_from(list(FRAMINGS)), UNITS, exchanges(), st.data())
def test_a_damaged_reply_is_never_taken(framing, unit, exchange, data):
    request, reply, good = exchange
    find, asked = prepare(framing, unit, request, reply)
    wire = bytearray(FRAMINGS[framing].wrap(unit, 7, good))
    assume(wire != asked or request in WRITES[:2])
    bit = data.draw(st.integers(0, (7 * 8 if framing == "tcp" else len(wire) * 8) - 1))
    wire[bit // 8] ^= 1 << bit % 8
    found = find(wire)
    if isinstance(found, Frame):  # only a change of case: the same hexadecimal digit
        assert framing == "ascii"
        assert wire.upper() == FRAMINGS[framing].wrap(unit, 7, good)


@given(UNITS, exchanges(), st.binary(max_size=30))
def test_rtu_noise_in_front_is_skipped(receive, unit, exchange, noise):
    request, reply, good = exchange
    find, asked = prepare("rtu", unit, request, reply)
    wire = FRAMINGS["rtu"].wrap(unit, 0, good)
    assume(wire != asked or request in WRITES[:2])
    frame, _ = receive(find, noise + wire)
    assert frame in (wire, None)  # noise that equals the head of our reply holds the search until more has come


@pytest.mark.parametrize("noise", ["00", "FF", "FF 00", "00 00 FF FF"])
def test_rtu_noise_before_any_unit_even_when_its_number_is_a_function_code(rtu, receive, noise):
    request = pdu.read("holding", 0, 10)
    for unit in range(1, 248):
        find, _ = prepare("rtu", unit, request, pdu.read_reply("holding", request))
        wire = rtu(unit, b"\x03\x14" + bytes(range(20)))
        assert receive(find, bytes.fromhex(noise) + wire) == (wire, len(bytes.fromhex(noise)))


@given(st.sampled_from(["rtu", "ascii"]), UNITS, exchanges())
def test_the_echo_of_the_request_is_skipped(receive, framing, unit, exchange):
    request, reply, good = exchange
    assume(request not in WRITES[:2])
    find, asked = prepare(framing, unit, request, reply)
    wire = FRAMINGS[framing].wrap(unit, 0, good)
    assume(wire != asked)
    frame, dropped = receive(find, asked + wire)
    assert (frame, dropped) == (wire, len(asked))


@pytest.mark.parametrize("framing", ["rtu", "ascii"])
def test_a_reply_of_bits_that_equals_the_request_is_taken_for_the_echo(receive, framing):
    request = pdu.read("coil", 0x0305, 20)
    find, asked = prepare(framing, 9, request, pdu.read_reply("coil", request))
    assert asked == FRAMINGS[framing].wrap(9, 0, b"\x01\x03\x05\x00\x14")
    assert receive(find, asked)[0] is None


@pytest.mark.parametrize("framing", ["rtu", "ascii"])
@pytest.mark.parametrize("request_", WRITES[:2])
def test_a_single_write_is_answered_by_its_own_bytes(receive, framing, request_):
    find, asked = prepare(framing, 9, request_, pdu.write_reply(request_))
    assert receive(find, asked) == (asked, 0)


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("request_", WRITES)
def test_a_write_is_confirmed_only_by_its_own_address_and_value(receive, framing, request_):
    find, _ = prepare(framing, 9, request_, pdu.write_reply(request_))
    for place in (1, 2, 3, 4):
        other = bytearray(request_[:5])
        other[place] ^= 1
        assert receive(find, FRAMINGS[framing].wrap(9, 7, bytes(other)))[0] is None


# What is not ----------------------------------------------------------------------------------------------------------

FOREIGN = {
    "another unit": (6, "04 04 00 01 00 02"),
    "another function": (5, "03 04 00 01 00 02"),
    "another count": (5, "04 02 00 01"),
    "more": (5, "04 06 00 01 00 02 00 03"),
    "another unit's refusal": (6, "84 02"),
    "another function's refusal": (5, "83 02"),
    "another unit's write": (6, "06 00 01 00 02"),
    "another unit's block write": (6, "10 00 01 00 02"),
}


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("foreign", FOREIGN.values(), ids=FOREIGN.keys())
def test_the_frames_of_others_are_dropped_whole(receive, framing, foreign):
    request = pdu.read("input", 0, 2)
    find, _ = prepare(framing, 5, request, pdu.read_reply("input", request))
    unit, other = foreign
    strange = FRAMINGS[framing].wrap(unit, 7, bytes.fromhex(other))
    wire = FRAMINGS[framing].wrap(5, 7, bytes.fromhex("04 04 00 0A 00 0B"))
    assert find(strange) == Reject(len(strange))
    assert receive(find, strange + wire) == (wire, len(strange))


def test_a_frame_inside_the_data_of_a_foreign_frame_is_not_ours(rtu):
    request = pdu.read("input", 0, 1)
    find, _ = prepare("rtu", 5, request, pdu.read_reply("input", request))
    inner = rtu(5, "04 02 12 34")
    outer = rtu(6, bytes((3, len(inner) + 1)) + inner + b"\0")
    assert find(outer) == Reject(len(outer))


def test_a_refusal_inside_our_own_reply_is_data(rtu):
    request = pdu.read("input", 0, 10)
    find, _ = prepare("rtu", 5, request, pdu.read_reply("input", request))
    wire = rtu(5, b"\x04\x14" + rtu(5, "84 02") + bytes(15))
    for cut in range(len(wire)):
        assert not isinstance(find(wire[:cut]), Frame)
    assert find(wire) == Frame(0, len(wire))


def test_noise_that_looks_like_a_long_frame_does_not_hide_the_reply(rtu, receive):
    request = pdu.read("input", 0, 1)
    find, _ = prepare("rtu", 5, request, pdu.read_reply("input", request))
    wire = rtu(5, "04 02 12 34")
    assert receive(find, bytes.fromhex("09 03 F0") + wire) == (wire, 3)


@given(st.binary(max_size=600), UNITS)
def test_rtu_keeps_no_more_than_a_frame_of_noise(noise, unit):
    find, _ = prepare("rtu", unit, pdu.read("input", 0, 1), Reply(b"\x04\x02", 4))
    buffer = noise
    while isinstance(found := find(buffer), Reject):
        buffer = buffer[found.size :]
    assert found is None
    assert len(buffer) <= 260


# TCP ------------------------------------------------------------------------------------------------------------------


def test_tcp_drops_older_transactions_and_waits_for_its_own(receive):
    request = pdu.read("input", 0, 2)
    find, _ = prepare("tcp", 5, request, pdu.read_reply("input", request), transaction=300)
    wrap = FRAMINGS["tcp"].wrap
    old, new = (wrap(5, number, bytes.fromhex("04 04 00 0A 00 0B")) for number in (299, 300))
    assert find(old + new) == Frame(len(old), len(old) + len(new))
    assert receive(find, old + new) == (new, len(old))


@pytest.mark.parametrize("nonsense", ["00 07 00 01 00 03 05", "00 07 00 00 01 05", "00 07 00 00 00 01 05", "AA"])
def test_tcp_finds_the_way_back_into_the_stream(receive, nonsense):
    request = pdu.read("input", 0, 2)
    find, _ = prepare("tcp", 5, request, pdu.read_reply("input", request))
    wire = FRAMINGS["tcp"].wrap(5, 7, bytes.fromhex("04 04 00 0A 00 0B"))
    noise = bytes.fromhex(nonsense)
    assert receive(find, noise + wire) == (wire, len(noise))


# ASCII ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("junk", "dropped"),
    [("xyz", 3), (":0504", 5), (":ZZ\r\n", 5), (":0\r\n", 4), ("\r\n", 2), (":" + "0" * 600, 601), (":0504FF\r\n", 9)],
)
def test_ascii_junk_is_skipped(receive, junk, dropped):
    request = pdu.read("input", 0, 1)
    find, _ = prepare("ascii", 5, request, pdu.read_reply("input", request))
    wire = FRAMINGS["ascii"].wrap(5, 0, bytes.fromhex("04 02 12 AB"))
    assert receive(find, junk.encode() + wire) == (wire, dropped)
    assert receive(find, junk.encode() + wire.lower()) == (wire.lower(), dropped)
    assert FRAMINGS["ascii"].unwrap(wire.lower()) == bytes.fromhex("04 02 12 AB")


@pytest.mark.parametrize("framing", FRAMINGS)
def test_nothing_has_arrived(framing):
    find, _ = prepare(framing, 5, pdu.read("input", 0, 1), Reply(b"\x04\x02", 4))
    assert find(b"") is None
