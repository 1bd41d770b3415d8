"""What passes on a line, as lines, as JSON and as a capture that is read here by the format's own rules."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess

import pytest

from gateway.control.pcap import Capture
from gateway.control.trace import answer, message
from gateway.field.talks import Traced
from gateway.simulator.wire import crc16


def rtu(text):
    frame = bytes.fromhex(text)
    return frame + crc16(frame)


def exchange(request, reply=b"", heard=b"", error="", at=1000.0, took=0.0234):
    traced = Traced(at, took, "đồng-hồ", "unit 5: FC3 holding 0..1", request, reply, heard, error)
    return {**message(traced, "rtu", 1_700_000_000_000), "left_out": 0}


# The capture ----------------------------------------------------------------------------------------------------------


def blocks_of(data):
    """Cut a pcapng file into (type, body): draft-ietf-opsawg-pcapng, section 3.1."""
    while data:
        kind, size = struct.unpack_from("<II", data)
        assert size % 4 == 0
        assert struct.unpack_from("<I", data, size - 4) == (size,)
        yield kind, data[8 : size - 4]
        data = data[size:]


def options_of(data):
    """Section 3.5."""
    found = {}
    while True:
        code, size = struct.unpack_from("<HH", data)
        if code == 0:
            assert data == b"\0\0\0\0"
            return found
        found[code] = data[4 : 4 + size].decode()
        data = data[4 + size + -size % 4 :]


def is_right(data):
    """Whether an Internet checksum closes to zero (RFC 1071)."""
    total = sum(struct.unpack(f">{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total == 0xFFFF


def packets_of(data):
    """(microseconds, from, to, sequence number, payload, comment) of every packet of a capture."""
    (kind, head), (interface, body), *rest = blocks_of(data)
    assert (kind, interface) == (0x0A0D0D0A, 1)
    assert struct.unpack_from("<IHHq", head) == (0x1A2B3C4D, 1, 0, -1)
    assert struct.unpack_from("<HHI", body) == (101, 0, 0)
    for kind, body in rest:
        assert kind == 6
        interface, high, low, size, whole = struct.unpack_from("<5I", body)
        assert (interface, size) == (0, whole)
        packet = body[20 : 20 + size]
        assert packet[0] == 0x45
        assert packet[9] == 6
        assert struct.unpack_from(">H", packet, 2) == (size,)
        assert is_right(packet[:20])
        assert is_right(packet[12:20] + struct.pack(">HH", 6, size - 20) + packet[20:])
        comment = options_of(body[20 + size + -size % 4 :])[1]
        source, target = (".".join(map(str, packet[at : at + 4])) for at in (12, 16))
        sequence, ports = struct.unpack_from(">I", packet, 24)[0], struct.unpack_from(">HH", packet, 20)
        assert 502 in ports
        yield high << 32 | low, source, target, sequence, packet[40:], comment


ASK, GOOD, NO = rtu("05 03 0000 0002"), rtu("05 03 04 1234 abcd"), rtu("05 83 02")


def test_a_capture_holds_every_frame_as_modbus_tcp_with_what_the_line_had_in_the_comments():
    capture = Capture("tủ-1", "rtu", "gateway 1.2")
    data = capture.head + capture.packets(exchange(ASK, GOOD)) + capture.packets(exchange(ASK, NO, at=1001.0))
    data += capture.packets(exchange(ASK, b"", b"\xff\0", "no answer within the response time-out"))
    first, reply, second, refusal, third = packets_of(data)
    assert first[4] == bytes.fromhex("0001 0000 0006 05 03 0000 0002")
    assert reply[4] == bytes.fromhex("0001 0000 0007 05 03 04 1234 abcd")
    assert refusal[4] == bytes.fromhex("0002 0000 0003 05 83 02")
    assert first[1:3] == second[1:3] == ("198.51.100.1", "192.0.2.5")
    assert reply[1:3] == ("192.0.2.5", "198.51.100.1")
    assert (first[3], second[3], third[3]) == (1, 13, 25)
    assert first[0] == 1_700_001_000_000_000
    assert reply[0] - first[0] == 23_400
    assert first[5] == "đồng-hồ: unit 5: FC3 holding 0..1; on the line: RTU, 8 bytes, checksum c5 8f"
    assert "23.4 ms" in reply[5]
    assert "ff 00" in third[5]
    assert "no answer within" in third[5]


def test_frames_of_modbus_tcp_and_ascii():
    frame = bytes.fromhex("abcd 0000 0006 ff 03 0000 0002")
    capture = Capture("plc", "tcp", "gateway")
    (packet,) = packets_of(capture.head + capture.packets(exchange(frame)))
    assert packet[4] == frame
    assert packet[2] == "192.0.2.255"
    capture = Capture("line", "ascii", "gateway")
    (packet,) = packets_of(capture.head + capture.packets(exchange(b":050300000002F6\r\n")))
    assert packet[4] == bytes.fromhex("0001 0000 0006 05 03 0000 0002")
    assert "checksum F6" in packet[5]


@pytest.mark.skipif(shutil.which("tshark") is None, reason="128 MB installed: tried where it is")
def test_tshark_decodes_it_without_a_setting(tmp_path):
    capture = Capture("line", "rtu", "gateway")
    file = tmp_path / "line.pcapng"
    file.write_bytes(capture.head + capture.packets(exchange(ASK, GOOD)) + capture.packets(exchange(ASK, NO)))
    fields = "modbus.func_code", "modbus.regval_uint16", "modbus.exception_code", "_ws.malformed"
    command = ["tshark", "-r", file, "-T", "fields", *(word for name in fields for word in ("-e", name))]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert shown.stdout.split("\n")[:4] == ["3\t\t\t", "3\t4660,43981\t\t", "3\t\t\t", "3\t\t2\t"]


# In words -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (GOOD, "1234 abcd"),
        (NO, "exception 2: illegal data address"),
        (rtu("05 83 63"), "exception 99: not a code"),
        (rtu("05 03 22" + "0001" * 17), "0001 and 1 more"),
        (rtu("05 01 01 05"), "bits 05"),
        (rtu("05 06 0000 0001"), "done"),
        (rtu("05 11 04 41 42 43 ff"), "ABC."),
        (rtu("05 07 6d"), "6d"),
        (b"", ""),
    ],
)
def test_an_answer_in_words(reply, words):
    assert words in answer("rtu", reply)


def test_another_protocol_has_no_words():
    assert answer("mbus", b"\x68\x03") == ""


# The verb -------------------------------------------------------------------------------------------------------------


async def test_every_exchange_is_shown_and_captured(both, tmp_path):
    file = tmp_path / "line.pcapng"
    shown = await both.call("trace", "line", "--count", "12", "--json", "--pcap", str(file))
    assert (shown.code, shown.err) == (0, "")
    seen = [json.loads(line) for line in shown.out.splitlines()]
    assert len(seen) == 12
    assert {"meter", "lamp"} <= {one["device"] for one in seen}
    assert all(one["took_ms"] > 0 for one in seen)
    assert all(one["answer"] for one in seen if one["reply"])
    answered = [one for one in seen if one["reply"]]
    packets = list(packets_of(file.read_bytes()))
    assert len(packets) == 12 + len(answered)
    (request, *_) = packets
    assert request[4][7:] == bytes.fromhex(seen[0]["request"])[1:-2]


async def test_lines_for_people_and_the_end_by_time(rig):
    shown = await rig.call("trace", "line", "--seconds", "2", "--raw")
    assert shown.code == 0
    assert "FC4 input" in shown.out
    assert "<- 01 04" in shown.out
    assert "no answer within" in shown.out  # the ghost
    assert "Traceback" not in shown.err


@pytest.mark.parametrize("file", ["/dev/full", "/no/such/folder/x.pcapng", "/"])
async def test_a_capture_that_cannot_be_written_is_one_sentence(rig, file):
    shown = await rig.call("trace", "line", "--count", "3", "--pcap", file)
    assert shown.code == 1
    assert "cannot be written" in shown.sentence
    assert "Choose" in shown.sentence


async def test_an_unknown_bus_is_declined(rig):
    shown = await rig.call("trace", "lime")
    assert shown.code == 2
    assert "did you mean line?" in shown.sentence
