"""The golden rule of a serial line: a reply with flipped bits is no reply."""

from __future__ import annotations

from itertools import combinations
from random import Random

import pytest

from drivers.base import Frame, Reject
from drivers.modbus import pdu
from drivers.modbus.adu import FRAMINGS, crc16
from drivers.modbus.reply import reply_to


def line(registers: int):
    """(find, reply) of unit 5."""
    request = pdu.read("holding", 0, registers)
    find = FRAMINGS["rtu"].find(5, b"", reply_to(request))
    data = Random(registers).randbytes(2 * registers)
    return find, FRAMINGS["rtu"].wrap(5, 0, bytes((3, len(data))) + data)


def flipped(frame: bytes, bits) -> bytearray:
    damaged = bytearray(frame)
    for bit in bits:
        damaged[bit // 8] ^= 1 << bit % 8
    return damaged


def is_taken(find, buffer: bytearray) -> bool:
    while isinstance(found := find(buffer), Reject):
        del buffer[: found.size]
    return isinstance(found, Frame)


@pytest.mark.parametrize("registers", [1, 2, 20])
def test_one_and_two_flipped_bits_wherever_they_are(registers):
    find, frame = line(registers)
    bits = range(8 * len(frame)) if registers < 20 else range(0, 8 * len(frame), 3)
    for many in (1, 2):
        for places in combinations(bits, many):
            assert not is_taken(find, flipped(frame, places)), places


@pytest.mark.parametrize("registers", [1, 2, 20, 125])
def test_three_flipped_bits_at_every_place(registers):
    find, frame = line(registers)
    random = Random(3)
    for first in range(8 * len(frame)):
        others = random.sample([bit for bit in range(8 * len(frame)) if bit != first], 2)
        assert not is_taken(find, flipped(frame, (first, *others))), (first, others)


def test_four_flipped_bits_slip_through_as_rarely_as_the_checksum_allows():
    """About one in 2^15: an even number of flips leaves 15 of the 16 bits to tell. 20,000 tries: 0.6 expected."""
    random = Random(4)
    slipped = 0
    for _ in range(20_000):
        find, frame = LINES[random.randrange(len(LINES))]
        slipped += is_taken(find, flipped(frame, random.sample(range(8 * len(frame)), 4)))
    print(f"{slipped} of 20000 frames with four flipped bits were taken")  # noqa: T201
    assert slipped <= 4


LINES = [line(registers) for registers in (1, 2, 10, 20)]


def test_the_checksum_itself_finds_any_three_flips_of_the_longest_frame():
    """A flip changes the CRC by a value of its own place; no two and no three of these cancel."""
    longest = 8 * 256
    changes = [crc16(flipped(bytes(256), (bit,))) ^ crc16(bytes(256)) for bit in range(longest)]
    known = set(changes)
    assert len(known) == longest
    assert 0 not in known
    assert not any(one ^ other in known for one, other in combinations(changes, 2))
