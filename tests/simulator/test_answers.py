"""Request in, reply out: function codes, exceptions, and the specification's own frames."""

from __future__ import annotations

import pytest

from gateway.simulator.answer import answer
from gateway.simulator.image import Image, layout_of
from gateway.simulator.wire import (
    FRAMINGS,
    NotModbus,
    crc16,
    deliveries,
    find_ascii,
    find_rtu,
    find_tcp,
    lrc,
    requests,
)


@pytest.fixture
def image(point) -> Image:
    layout = layout_of(
        [
            point("a", "holding", 107, "u16"),
            point("b", "holding", 110, "u16", writable=True),
            point("c", "holding", 111, "u32", writable=True),
            point("far", "holding", 129, "u16"),
            point("d", "input", 0, "f32"),
            *(point(f"k{i}", "coil", i, "bit", writable=i != 9) for i in range(10)),
            point("e", "discrete", 4, "bit"),
        ]
    )
    return Image(layout, tuple(bytes(range(1, 1 + len(block))) for block in layout.blank()))


def ask(image, text: str) -> str:
    return answer(bytes.fromhex(text), image).pdu.hex(" ")


@pytest.mark.parametrize(
    ("request_pdu", "reply"),
    [
        ("03 006b 0001", "03 02 01 02"),
        ("03 006b 0006", "03 0c 01 02 03 04 05 06 07 08 09 0a 0b 0c"),
        ("04 0000 0002", "04 04 01 02 03 04"),
        ("03 0081 0001", "03 02 01 02"),  # 129 is 17 registers after 112: an area of its own
        ("41 0000 0001", "c1 01"),
        ("03 006b 0000", "83 03"),
        ("03 006b 007e", "83 03"),
        ("03 006b 007d", "83 02"),
        ("03 0071 0001", "83 02"),
        ("03 006a 0002", "83 02"),
        ("03 ffff 007d", "83 02"),
        ("03 006b", "83 03"),
        ("04 006b 0001", "84 02"),
        ("01 0000 07d1", "81 03"),
        ("02 0004 0002", "82 02"),
        ("05 0000 ff00", "05 00 00 ff 00"),
        ("05 0000 0001", "85 03"),
        ("05 0009 ff00", "85 02"),
        ("06 006e 1234", "06 00 6e 12 34"),
        ("06 006b 1234", "86 02"),
        ("06 006c 1234", "86 02"),
        ("10 006e 0002 04 000a0102", "10 00 6e 00 02"),
        ("10 006e 0002 03 000a01", "90 03"),
        ("10 006e 0000 00", "90 03"),
        ("10 006e 0002", "90 03"),
        ("10 006d 0002 04 000a0102", "90 02"),
        ("0f 0000 0009 02 ff01", "0f 00 00 00 09"),
        ("0f 0000 000a 02 ff03", "8f 02"),
        ("0f 0000 0009 01 ff", "8f 03"),
    ],
)
def test_a_device_answers_as_the_specification_says(image, request_pdu, reply):
    assert ask(image, request_pdu) == reply


def test_a_hole_between_near_points_answers_zero(point):
    layout = layout_of([point("a", "holding", 0), point("b", "holding", 16), point("c", "holding", 33)])
    image = Image(layout, tuple(b"\xff" * 2 + b"\0" * (len(block) - 4) + b"\xff" * 2 for block in layout.blank()))
    assert ask(image, "03 0000 0011") == "03 22 ff ff " + "00 " * 30 + "ff ff"
    assert ask(image, "03 0000 0012") == "83 02"


def test_bits_are_packed_from_the_lowest(image):
    layout = image.layout
    bits = (1, 0, 1, 1, 0, 0, 1, 1, 1, 0)
    blocks = [bytes(bits) if len(block) == 10 else bytes(block) for block in layout.blank()]
    assert ask(Image(layout, tuple(blocks)), "01 0000 000a") == "01 02 cd 01"


def test_a_write_changes_what_is_read(image):
    write = answer(bytes.fromhex("10 006e 0003 06 111122223333"), image).write
    assert write is not None
    after = image.written(write)
    assert ask(after, "03 006e 0003") == "03 06 11 11 22 22 33 33"
    assert ask(image, "03 006e 0001") != ask(after, "03 006e 0001")
    coils = answer(bytes.fromhex("0f 0000 0008 01 a5"), image).write
    assert coils is not None
    assert ask(image.written(coils), "01 0000 0008") == "01 01 a5"


def test_checksums_of_the_specification():
    assert crc16(bytes.fromhex("02 07")) == bytes.fromhex("41 12")  # Modbus over Serial Line V1.02, 6.2.2
    assert crc16(bytes.fromhex("01 03 00 0c 00 02")) == bytes.fromhex("04 08")
    assert lrc(bytes.fromhex("01 03 00 00 00 0a")) == 0xF2


READ = bytes.fromhex("01 03 00 0c 00 02 04 08")
WRITE = bytes.fromhex("01 10 00 16 00 02 04 3f 80 00 00 7f 75")


@pytest.mark.parametrize("frame", [READ, WRITE])
def test_no_beginning_of_a_request_is_taken_for_one(frame):
    assert all(find_rtu(frame[:k]) is None for k in range(len(frame)))
    assert find_rtu(frame).request.pdu == frame[1:-2]


def test_noise_before_a_request_is_skipped():
    buffer = bytearray(b"\x00\xff\x10\x10" + READ + b"\x55" + WRITE + READ[:5])
    found = list(requests(FRAMINGS["rtu"], buffer))
    assert [request.pdu for request in found] == [READ[1:-2], WRITE[1:-2]]
    assert bytes(buffer) == READ[:5]


def test_an_unknown_function_is_a_request_too():
    frame = bytes.fromhex("01 42")
    frame += crc16(frame)
    assert find_rtu(frame).request.pdu == b"\x42"


def test_endless_noise_is_forgotten():
    buffer = bytearray(b"\xfe" * 20_000)
    assert list(requests(FRAMINGS["rtu"], buffer)) == []
    assert len(buffer) <= 4096
    buffer += READ
    assert len(list(requests(FRAMINGS["rtu"], buffer))) == 1


def test_ascii_frames():
    assert find_ascii(b":01030000000AF2\r") is None
    found = find_ascii(b":01030000000AF2\r\n")
    assert (found.request.unit, found.request.pdu.hex(), found.used) == (1, "030000000a", 17)
    assert find_ascii(b":01030000000AF3\r\n").request is None
    assert find_ascii(b":01zz\r\n").request is None
    assert find_ascii(b"noise").used == 5
    assert find_ascii(b":" + b"0" * 600).used == 1
    assert FRAMINGS["ascii"].wrap(found.request, b"\x83\x02") == b":0183027A\r\n"


def test_tcp_frames():
    frame = bytes.fromhex("1234 0000 0006 05 03 0000 0001")
    assert all(find_tcp(frame[:k]) is None for k in range(len(frame)))
    request = find_tcp(frame).request
    assert (request.unit, request.tag) == (5, b"\x12\x34")
    assert FRAMINGS["tcp"].wrap(request, b"\x03\x02\x00\x07").hex(" ") == "12 34 00 00 00 05 05 03 02 00 07"
    for strange in (b"GET / HTTP/1.1", bytes.fromhex("1234 0000 00ff 05 03"), bytes.fromhex("1234 0000 0001 05 03")):
        with pytest.raises(NotModbus):
            find_tcp(strange)


def test_a_reply_comes_in_pieces_at_the_pace_of_the_line():
    character = 10 / 9600
    schedule = deliveries(100.0, bytes(range(19)), character)
    assert [piece.data for piece in schedule] == [bytes(range(8)), bytes(range(8, 16)), bytes(range(16, 19))]
    assert [piece.due for piece in schedule] == pytest.approx([100 + n * character for n in (8, 16, 19)])
    assert [piece.data for piece in deliveries(0.0, b"12345678", character)] == [b"12345678"]


def test_where_there_is_no_line_a_reply_comes_at_once():
    assert deliveries(5.0, bytes(300), 0.0) == [(5.0, bytes(300))]
    assert deliveries(5.0, b"", 0.0) == deliveries(5.0, b"", 0.001) == []


def test_pieces_with_gaps():
    schedule = deliveries(1.0, b"abcdefg", 0.001, piece=3, gap=0.02)
    assert [piece.data for piece in schedule] == [b"abc", b"def", b"g"]
    assert [piece.due for piece in schedule] == pytest.approx([1.003, 1.026, 1.047])


def test_a_checksum_tells_a_sound_frame():
    assert FRAMINGS["rtu"].sound(READ)
    assert not FRAMINGS["rtu"].sound(READ[:-1] + b"\0")
    assert not FRAMINGS["rtu"].sound(b"\xff\xff")
    assert FRAMINGS["ascii"].sound(b":01030000000AF2\r\n")
    for text in (b":01030000000AF3\r\n", b":01030000000AF2", b":\r\n", b":zz\r\n"):
        assert not FRAMINGS["ascii"].sound(text)
