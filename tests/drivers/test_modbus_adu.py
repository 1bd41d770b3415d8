from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.framer.ascii import FramerAscii
from pymodbus.framer.rtu import FramerRTU
from pymodbus.framer.socket import FramerSocket
from pymodbus.pdu import DecodePDU

from drivers.base import Frame, Reject
from drivers.modbus import pdu
from drivers.modbus.adu import FRAMINGS, crc16, lrc
from drivers.modbus.reply import Reply, reply_to

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
        return request, reply_to(request), request[:5]
    table = draw(st.sampled_from(["coil", "discrete", "holding", "input"]))
    request = pdu.read(table, draw(st.integers(0, 65000)), draw(st.integers(1, 125)))
    reply = reply_to(request)
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
    find, _ = prepare(framing, unit, request, reply)
    wire = FRAMINGS[framing].wrap(unit, 7, answer)
    for cut in range(len(wire)):
        assert not isinstance(find(wire[:cut]), Frame)
    assert find(wire) == Frame(0, len(wire))
    assert find(bytearray(wire) + b"noise") == Frame(0, len(wire))


@given(st.sampled_from(list(FRAMINGS)), UNITS, exchanges(), st.data())
def test_a_damaged_reply_is_never_taken(framing, unit, exchange, data):
    request, reply, good = exchange
    find, _ = prepare(framing, unit, request, reply)
    wire = bytearray(FRAMINGS[framing].wrap(unit, 7, good))
    bit = data.draw(st.integers(0, (7 * 8 if framing == "tcp" else len(wire) * 8) - 1))
    wire[bit // 8] ^= 1 << bit % 8
    found = find(wire)
    if isinstance(found, Frame):  # only a change of case: the same hexadecimal digit
        assert framing == "ascii"
        assert wire.upper() == FRAMINGS[framing].wrap(unit, 7, good)


@given(UNITS, exchanges(), st.binary(max_size=30))
def test_rtu_noise_in_front_is_skipped(receive, unit, exchange, noise):
    request, reply, good = exchange
    find, _ = prepare("rtu", unit, request, reply)
    wire = FRAMINGS["rtu"].wrap(unit, 0, good)
    frame, _ = receive(find, noise + wire)
    assert frame in (wire, None)  # noise that equals the head of our reply holds the search until more has come


@pytest.mark.parametrize("noise", ["00", "FF", "FF 00", "00 00 FF FF"])
def test_rtu_noise_before_any_unit_even_when_its_number_is_a_function_code(rtu, receive, noise):
    request = pdu.read("holding", 0, 10)
    for unit in range(1, 248):
        find, _ = prepare("rtu", unit, request, reply_to(request))
        wire = rtu(unit, b"\x03\x14" + bytes(range(20)))
        assert receive(find, bytes.fromhex(noise) + wire) == (wire, len(bytes.fromhex(noise)))


@pytest.mark.parametrize("framing", ["rtu", "ascii"])
@pytest.mark.parametrize("request_", WRITES[:2])
def test_a_single_write_is_answered_by_its_own_bytes(receive, framing, request_):
    find, asked = prepare(framing, 9, request_, reply_to(request_))
    assert receive(find, asked) == (asked, 0)


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("request_", WRITES)
def test_a_write_is_confirmed_only_by_its_own_address_and_value(receive, framing, request_):
    find, _ = prepare(framing, 9, request_, reply_to(request_))
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
    find, _ = prepare(framing, 5, request, reply_to(request))
    unit, other = foreign
    strange = FRAMINGS[framing].wrap(unit, 7, bytes.fromhex(other))
    wire = FRAMINGS[framing].wrap(5, 7, bytes.fromhex("04 04 00 0A 00 0B"))
    assert find(strange) == Reject(len(strange), len(strange))
    assert receive(find, strange + wire) == (wire, len(strange))


def test_a_frame_inside_the_data_of_a_foreign_frame_is_not_ours(rtu):
    request = pdu.read("input", 0, 1)
    find, _ = prepare("rtu", 5, request, reply_to(request))
    inner = rtu(5, "04 02 12 34")
    outer = rtu(6, bytes((3, len(inner) + 1)) + inner + b"\0")
    assert find(outer) == Reject(len(outer), len(outer))


def test_a_refusal_inside_our_own_reply_is_data(rtu):
    request = pdu.read("input", 0, 10)
    find, _ = prepare("rtu", 5, request, reply_to(request))
    wire = rtu(5, b"\x04\x14" + rtu(5, "84 02") + bytes(15))
    for cut in range(len(wire)):
        assert not isinstance(find(wire[:cut]), Frame)
    assert find(wire) == Frame(0, len(wire))


def test_noise_that_looks_like_a_long_frame_does_not_hide_the_reply(rtu, receive):
    request = pdu.read("input", 0, 1)
    find, _ = prepare("rtu", 5, request, reply_to(request))
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


# Replies that tell their length ---------------------------------------------------------------------------------------

TELLING = [
    (pdu.server_id(), "11 03 42 FF 01"),
    (pdu.comm_event_log(), "0C 08 00 00 01 08 01 21 20 00"),
    (pdu.fifo(0x04DE), "18 00 06 00 02 01 B8 12 84"),
    (pdu.fifo(0x04DE), "18 00 02 00 00"),
    (pdu.identification(1, 0), "2B 0E 01 01 00 00 02 00 02 41 42 02 01 43"),
    (pdu.identification(1, 0), "2B 0E 01 01 00 00 00"),
]


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize(("request_", "good"), TELLING)
def test_a_reply_that_tells_its_length_is_taken_whole_and_never_early(receive, framing, request_, good):
    find, _ = prepare(framing, 5, request_, reply_to(request_))
    wrap = FRAMINGS[framing].wrap
    wire, refusal = wrap(5, 7, bytes.fromhex(good)), wrap(5, 7, bytes((request_[0] | 0x80, 1)))
    for answer in (wire, refusal):
        for cut in range(len(answer)):
            assert not isinstance(find(answer[:cut]), Frame)
        assert find(answer) == Frame(0, len(answer))
        strange = wrap(6, 7, bytes.fromhex(good)) + wrap(5, 7, b"\x03\x02\0\1")
        assert receive(find, strange + answer) == (answer, len(strange))
    noise = {"rtu": b"\xff", "tcp": b"\0\7\0\1\0\3\5", "ascii": b"x"}[framing]
    assert receive(find, noise + wire) == (wire, len(noise))


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize(
    "nonsense", ["18 00 07 00 02 01 B8 12 84", "18 00 42 00 20" + 64 * "00", "18 00 06 00 02 01 B8"]
)
def test_a_queue_that_makes_no_sense_is_not_taken(receive, framing, nonsense):
    find, _ = prepare(framing, 5, pdu.fifo(1), reply_to(pdu.fifo(1)))
    assert receive(find, FRAMINGS[framing].wrap(5, 7, bytes.fromhex(nonsense)))[0] is None


def test_what_is_foreign_is_counted_apart_from_noise(rtu):
    request = pdu.read("input", 0, 1)
    find, _ = prepare("rtu", 5, request, reply_to(request))
    late, foreign = rtu(5, "04 04 0001 0002"), rtu(6, "2B 0E 01 01 00 00 01 00 02 41 42")
    assert find(b"\xff\xff" + late + b"\xff" + foreign) == Reject(3 + len(late + foreign), len(late + foreign))
    # What may be the beginning of a frame is kept, and counted when it is dropped.
    assert find(late + foreign[:6] + late) == Reject(len(late), len(late))


# TCP ------------------------------------------------------------------------------------------------------------------


def test_tcp_drops_older_transactions_and_waits_for_its_own(receive):
    request = pdu.read("input", 0, 2)
    find, _ = prepare("tcp", 5, request, reply_to(request), transaction=300)
    wrap = FRAMINGS["tcp"].wrap
    old, new = (wrap(5, number, bytes.fromhex("04 04 00 0A 00 0B")) for number in (299, 300))
    assert find(old + new) == Frame(len(old), len(old) + len(new))
    assert receive(find, old + new) == (new, len(old))


@pytest.mark.parametrize("nonsense", ["00 07 00 01 00 03 05", "00 07 00 00 01 05", "00 07 00 00 00 01 05", "AA"])
def test_tcp_finds_the_way_back_into_the_stream(receive, nonsense):
    request = pdu.read("input", 0, 2)
    find, _ = prepare("tcp", 5, request, reply_to(request))
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
    find, _ = prepare("ascii", 5, request, reply_to(request))
    wire = FRAMINGS["ascii"].wrap(5, 0, bytes.fromhex("04 02 12 AB"))
    assert receive(find, junk.encode() + wire) == (wire, dropped)
    assert receive(find, junk.encode() + wire.lower()) == (wire.lower(), dropped)
    assert FRAMINGS["ascii"].unwrap(wire.lower()) == bytes.fromhex("04 02 12 AB")


@pytest.mark.parametrize("framing", FRAMINGS)
def test_nothing_has_arrived(framing):
    find, _ = prepare(framing, 5, pdu.read("input", 0, 1), Reply(b"\x04\x02", 4))
    assert find(b"") is None
