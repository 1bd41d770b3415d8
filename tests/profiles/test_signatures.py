"""What a scan recognises devices by: against the profile's own points and frames, and against those of all others."""

import dataclasses

import pytest

from drivers.modbus import values
from drivers.modbus.register import Register
from gateway.settings import Factory, Signature, factories, profile_names, signatures
from gateway.settings.points import register_of
from gateway.settings.profile import SHIPPED, Catalogue

SIGNATURES = signatures()
CATALOGUE = Catalogue((SHIPPED,))
READS = {3: "holding", 4: "input"}
LOOK_ALIKES = {("eastron-sdm630", "eastron-sdm120")}
"""The first satisfies the signature of the second: one maker, one map. The one with more signatures is meant."""


def frames(name):
    """The registers that each golden read of a profile holds: (table, address) -> two bytes."""
    for golden in CATALOGUE.get(name).table.golden:
        request, reply = bytes.fromhex(golden.request), bytes.fromhex(golden.reply)
        if request[1] in READS and reply:
            first, count = (int.from_bytes(request[at : at + 2]) for at in (2, 4))
            yield {(READS[request[1]], first + k): reply[3 + 2 * k : 5 + 2 * k] for k in range(count)}


def image(name):
    """All golden reads of a profile in one."""
    return {place: word for frame in frames(name) for place, word in frame.items()}


def holds(signature, registers):
    """Whether a signature holds; None where the registers do not cover it."""
    places = [(signature.table, signature.at + k) for k in range(signature.count)]
    if not registers.keys() >= set(places):
        return None
    register = Register(signature.table, signature.at, signature.type, signature.order)
    raw = values.decode(register, b"".join(registers[place] for place in places))
    return raw is not None and signature.holds(raw)


class Everywhere(dict):
    """A device that answers the same at every address."""

    def __init__(self, word):
        super().__init__({(table, at): word for table in ("holding", "input") for at in range(65536)})


def test_most_shipped_profiles_can_be_recognised_and_the_most_exact_come_first():
    assert len(SIGNATURES) > 0.8 * len(profile_names())
    assert [len(some) for some in SIGNATURES.values()] == sorted(map(len, SIGNATURES.values()), reverse=True)


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_signature_looks_only_at_registers_of_the_profile(name):
    known = {
        (register.table, at)
        for register in map(register_of, CATALOGUE.get(name).table.point)
        for at in range(register.at, register.end)
    }
    for signature in SIGNATURES[name]:
        assert known >= {(signature.table, signature.at + k) for k in range(signature.count)}


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_golden_frames_of_a_profile_satisfy_its_signature(name):
    told = [holds(signature, frame) for frame in frames(name) for signature in SIGNATURES[name]]
    assert False not in told


def test_golden_frames_cover_what_they_are_asked_for():
    covered = [holds(one, image(name)) for name in SIGNATURES for one in SIGNATURES[name]]
    assert covered.count(True) > 0.5 * len(covered)


@pytest.mark.parametrize("name", SIGNATURES)
def test_no_other_device_satisfies_a_signature(name):
    taken = {
        (other, name)
        for other in profile_names()
        if other != name and all(holds(signature, image(other)) for signature in SIGNATURES[name])
    }
    assert taken == {pair for pair in LOOK_ALIKES if pair[1] == name}


@pytest.mark.parametrize("word", [b"\0\0", b"\xff\xff"], ids=bytes.hex)
def test_a_device_that_answers_the_same_everywhere_is_nobody(word):
    registers = Everywhere(word)
    assert [name for name, some in SIGNATURES.items() if all(holds(one, registers) for one in some)] == []


def test_no_scan_reads_what_must_not_be_read():
    """A stranger is asked for the registers of every signature: none may be cleared by that."""
    harmful = set()
    for name in profile_names():
        table = CATALOGUE.get(name).table
        for kind, first, last in table.limits.forbidden or ():
            harmful |= {(kind, at) for at in range(first, last + 1)}
        for register in (register_of(point) for point in table.point if point.read_clears):
            harmful |= {(register.table, at) for at in range(register.at, register.end)}
    asked = {(one.table, one.at + k) for some in SIGNATURES.values() for one in some for k in range(one.count)}
    assert harmful
    assert not asked & harmful


RANGE = Signature("input", 0, 2, "f32", "", 80.0, 300.0, ())


@pytest.mark.parametrize(
    ("signature", "raw", "fits"),
    [
        (RANGE, 80.0, True), (RANGE, 300.0, True), (RANGE, 79.9, False), (RANGE, 300.1, False),
        (RANGE, float("nan"), False), (dataclasses.replace(RANGE, low=None), -1e9, True),
        (dataclasses.replace(RANGE, high=None), 1e9, True), (dataclasses.replace(RANGE, equals=(1, 2)), 2, True),
        (dataclasses.replace(RANGE, equals=(1, 2)), 100, False),
    ],
)  # fmt: skip
def test_a_signature_holds_within_its_bounds_or_for_its_values(signature, raw, fits):
    assert signature.holds(raw) is fits


def test_factory_lines_come_likeliest_first():
    found = factories()
    assert [(one.baud, one.format) for one in found.values()][:7] == 7 * [(9600, "8N1")]
    assert found["lambrecht-rain-e"] == Factory(19200, "8E1", 3)
    assert found["eastron-sdm120"] == Factory(2400, "8N1", None)
    assert "acrel-adw300" not in found
