"""Whom a scan asks when, and what it writes for the site file: pure."""

from __future__ import annotations

import itertools
import tomllib

import pytest

from drivers.base import Line
from gateway.control.attempts import BAUDS, FORMATS, Attempt, Attempts, lines, parse_units, spread
from gateway.control.findings import Findings, find, hints
from gateway.control.identity import READS, Stranger
from gateway.control.stanza import stanza
from gateway.model import Bus, Device, SerialPort, TcpPort
from gateway.settings import check

OWN, FAST = Line(9600, "8N1"), Line(19200, "8E1")


def order(attempts, many=10_000):
    return list(itertools.islice(attempts, many))


def test_likely_units_come_first_at_every_setting_and_then_all_others_at_the_likeliest():
    asked = order(Attempts([OWN, FAST], range(1, 9), [3, 1]))
    assert asked[:4] == [(OWN, 3), (OWN, 1), (FAST, 3), (FAST, 1)]
    assert [line for line, _ in asked[4:]] == [OWN] * 6 + [FAST] * 6
    assert len(set(asked)) == len(asked) == 16


def test_of_many_expected_units_a_few_stand_for_all_at_other_settings():
    attempts = Attempts([OWN, FAST], range(1, 31), range(1, 31))
    asked = order(attempts, 34)
    assert [attempt.unit for attempt in asked] == [*range(1, 31), 1, 2, 3, 4]


def test_where_one_was_found_the_others_are_looked_for_first_and_it_is_not_asked_elsewhere():
    attempts = Attempts([OWN, FAST], range(1, 9), [3, 1])
    asked = iter(attempts)
    while (attempt := next(asked)) != (FAST, 3):
        pass
    attempts.found(attempt)
    rest = order(asked)
    assert [line for line, _ in rest] == [FAST] * 7 + [OWN] * 6
    assert (OWN, 3) not in rest


def test_what_could_not_be_read_is_asked_at_the_other_settings_next_first_at_this_speed():
    parity = Line(9600, "8E1")
    attempts = Attempts([OWN, FAST, parity], range(1, 9), [1])
    asked = iter(attempts)
    while (attempt := next(asked)).unit != 5:
        pass
    assert attempt.line == OWN
    attempts.garbled(attempt)
    assert order(asked, 2) == [(parity, 5), (FAST, 5)]
    assert order(asked, 1)[0].line == parity


def test_a_setting_that_the_port_cannot_do_is_dropped():
    attempts = Attempts([OWN, FAST], range(1, 9), [1])
    asked = iter(attempts)
    next(asked)
    attempts.drop(OWN)
    assert {line for line, _ in order(asked)} == {FAST}
    assert attempts.left() == []


def test_settings_the_line_s_own_then_those_of_factories_then_the_usual():
    found = lines(Line(57600, "8O1"), [Line(2400, "8N1"), Line(9600, "8N1")])
    assert found[:5] == [Line(57600, "8O1"), Line(2400, "8N1"), Line(9600, "8N1"), Line(9600, "8E1"), Line(9600, "8N2")]
    assert len(found) == len(set(found)) == len(BAUDS) * len(FORMATS)
    assert lines(OWN, [], baud=76800) == [Line(76800, form) for form in FORMATS]
    assert lines(OWN, [FAST], baud=19200, form="8E1") == [FAST]


def test_any_beginning_of_the_rest_is_spread_over_all_units():
    units = spread(range(1, 248))
    assert sorted(units) == list(range(1, 248))
    first = sorted(units[:31])
    assert all(2 <= b - a <= 16 for a, b in itertools.pairwise(first))


@pytest.mark.parametrize(("text", "units"), [("5", [5]), ("1-3,9", [1, 2, 3, 9]), (" 2 - 4 , 3", [2, 3, 4])])
def test_units(text, units):
    assert parse_units(text, 1, 247) == units


@pytest.mark.parametrize("text", ["", "a", "0", "248", "5-3", "1-", "-4", "1,,2", "1-99999999", "½"])
def test_what_are_no_units_is_told(text):
    with pytest.raises(ValueError, match="units"):
        parse_units(text, 1, 247)


@pytest.mark.parametrize("function", [*range(1, 25), 43])
def test_a_stranger_is_only_read(function):
    request = bytes((function, 0x0E, 1, 0))
    if function in READS:
        Stranger(1).exchange(request, None, "a read")
    else:
        with pytest.raises(ValueError, match="never sends"):
            Stranger(1).exchange(request, None, "no read")


def test_a_stranger_is_not_spoken_canopen_with():
    with pytest.raises(ValueError, match="never sends"):
        Stranger(1).exchange(bytes((43, 0x0D, 1, 0)), None, "CANopen")


# Lines for the site file ----------------------------------------------------------------------------------------------

HEAD = """
[gateway]
id = "x"
[uplink]
brokers = ["mqtt://127.0.0.1:1883"]
"""
PORT = Bus("/dev/ttyUSB0", SerialPort("/dev/ttyUSB0"), "rtu", ())


def one(unit, line=OWN, *profiles, bus=PORT, exception=None, what=""):
    return find(
        bus,
        Attempt(line, unit),
        ({"vendor": what} if what else {}, ""),
        [{"profile": name, "matched": []} for name in profiles],
        ms=5,
        exception=exception,
    )


def site_of(tmp_path, text):
    path = tmp_path / "gateway.toml"
    path.write_text(HEAD + text, encoding="utf-8")
    site, problems = check(path)
    assert [problem for problem in problems if not problem.machine] == []
    return site


@pytest.mark.parametrize(
    "found",
    [
        [one(1, OWN, "eastron-sdm630", "eastron-sdm120"), one(2, OWN, "eastron-sdm630")],
        [one(1, FAST), one(7, FAST, exception=2), one(9, FAST, exception=1, what="Đồng hồ\n\x7f [[bus]]")],
        [one(1, OWN), one(1, FAST)],
    ],
)
def test_what_is_to_be_pasted_is_in_order(tmp_path, found):
    (bus,) = site_of(tmp_path, stanza(PORT, found, standing=False)).buses
    mute = [each for each in found if not each["profiles"] and each["exception"] is not None]
    settings = {(each["baud"], each["format"]) for each in found}
    assert len(bus.devices) == len(found) - len(mute) - (len(settings) - 1)
    assert (bus.port.baud, bus.port.format) in settings


@pytest.mark.parametrize("framing", ["tcp", "rtu", "ascii"])
def test_a_host_and_its_framing(tmp_path, framing):
    bus = Bus("10.0.0.1:1502", TcpPort("10.0.0.1", 1502), framing, ())
    (read,) = site_of(tmp_path, stanza(bus, [one(1, None, "eastron-sdm630", bus=bus)], standing=False)).buses
    assert (read.name, read.port, read.framing) == ("10.0.0.1-1502", bus.port, framing)


def test_below_a_bus_that_stands_already_only_its_new_devices_with_names_of_their_own(tmp_path):
    taken = Device("device-7", "modbus", 3, ())
    bus = Bus("line", SerialPort("/dev/ttyUSB0"), "rtu", (taken,))
    text = stanza(bus, [one(3, FAST, bus=bus), one(7, FAST, bus=bus)], standing=True)
    assert "[[bus]]" not in text
    assert "19200" in text  # the site file has another speed: said
    head = '[[bus]]\nname = "line"\nserial = { port = "/dev/ttyUSB0" }\n'
    assert [device.name for device in site_of(tmp_path, head + text).buses[0].devices] == ["device-7-2"]


def test_nothing_new_nothing_to_paste():
    bus = Bus("line", SerialPort("/dev/ttyUSB0"), "rtu", (Device("m", "modbus", 3, ()),))
    assert stanza(bus, [one(3, OWN, bus=bus)], standing=True) == ""
    assert tomllib.loads(stanza(bus, [], standing=False)) == {}


# What to look at next -------------------------------------------------------------------------------------------------


def told(bus=PORT, found=(), **tally):
    findings = Findings()
    findings.take({"done": tally})
    return " ".join(hints(bus, found, findings.tally))


def test_hints_follow_from_what_was_seen():
    assert "A and B" in told(asked=9)
    assert "before 5 of 14 attempts" in told(asked=9, left=5)
    assert "not readable at 9600 8N1" in told(garbled={"9600 8N1": 5})
    assert "two devices have one address" in told(mangled=[5])
    assert "cannot do it: a, a, a, a, a, a and 2 more" in told(skipped=["a"] * 8)
    assert told(found=[one(1)]) == ""
    assert "different settings" in told(found=[one(1), one(2, FAST)])
    for framing in ("tcp", "rtu"):
        assert "--framing" in told(Bus("x", TcpPort("x"), framing, ()))


def test_a_scan_that_is_stopped_counts_until_then():
    findings = Findings()
    findings.take({"progress": {"asked": 7, "of": 20}})
    findings.take({"found": one(4, OWN, "eastron-sdm630")})
    findings.take({"note": "something"})
    result = findings.result(PORT, standing=False, stopped=True)
    assert (result["asked"], result["left"], len(result["found"]), result["hints"]) == (7, 13, 1, [])
    assert "eastron-sdm630" in result["stanza"]
