"""How faults are written, and what is said to who writes them wrong."""

from __future__ import annotations

import pytest

from gateway.errors import GatewayError
from gateway.simulator import Simulator
from gateway.simulator.faults import KINDS, Span, listing, parse, span


def test_a_fault_has_the_settings_of_the_table_unless_it_says_others():
    assert parse("silence").numbers == {"rate": 1.0}
    assert parse(" crc  rate=0.02 bits=4 ").numbers == {"rate": 0.02, "bits": 4}
    assert parse("exception code=0x0B")["code"] == 11
    assert parse("late seconds=2")["seconds"] == 2.0
    identity = parse('identity product="SDM 120" revision=2.1')
    assert (identity.words, identity.numbers) == ({"product": "SDM 120", "revision": "2.1"}, {})


@pytest.mark.parametrize("name", KINDS)
def test_every_fault_can_be_written_as_it_is_listed(name):
    form = dict(zip(KINDS, listing(), strict=True))[name][0]
    assert parse(form).numbers == parse(name).numbers


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("silense", "did you mean silence?"),
        ("xyzzy", "The faults are: silence, slow, late"),
        ("xyzzy", "--faults"),
        ("", "a name is missing"),
        ("identity product='x", "a quote is not closed"),
        ("crc rats=1", "did you mean rate?"),
        ("crc rate", "It is written: crc rate=1 bits=1"),
        ("crc rate=2", "a number in 0..1"),
        ("crc rate=nan", "a number in 0..1"),
        ("crc bits=5", "a whole number in 1..4"),
        ("crc bits=1.5", "a whole number in 1..4"),
        ("late seconds=-1", "a number from 0 up"),
        ("late seconds=soon", "a number from 0 up"),
        ("exception code=12", "1..11"),
        ("echo rate=1", "It is written: echo"),
        (f"identity product={'x' * 245}", "at most 244 bytes"),
        ("identity product=a\x07b", "printable"),
    ],
)
def test_what_is_no_fault_is_explained(text, words):
    with pytest.raises(GatewayError) as caught:
        parse(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "fault", "words"),
    [
        ("meter-l", "silence", "did you mean meter-1?"),
        ("quạt", "silence", "The names are: rs485, meter-1."),
        ("meter-1", "echo", '--fault "rs485: echo"'),
        ("meter-1", "unplug", "befalls a whole line"),
    ],
)
def test_a_fault_in_the_wrong_place_is_explained_and_changes_nothing(serial_site, point, name, fault, words):
    simulator = Simulator(serial_site(**{"meter-1": (1, (point("v", "holding", 0),))}))
    with pytest.raises(GatewayError) as caught:
        simulator.afflict(name, ["silence", fault])
    assert words in str(caught.value)
    assert simulator._devices["meter-1"].faults == ()


@pytest.mark.parametrize(
    ("elapsed", "found"),
    [
        (9.9, None),
        (10.0, Span(10.0, lasts=True)),
        (12.9, Span(10.0, lasts=True)),
        (13.0, Span(10.0, lasts=False)),
        (69.9, Span(10.0, lasts=False)),
        (70.0, Span(70.0, lasts=True)),
        (193.5, Span(190.0, lasts=False)),
    ],
)
def test_spans_begin_after_a_while_and_come_again(elapsed, found):
    assert span(parse("reboot seconds=3 every=60 after=10"), elapsed) == found


def test_a_span_may_come_once_or_never_end():
    assert span(parse("babble seconds=5"), 1e6) == Span(0.0, lasts=False)
    assert span(parse("babble"), 1e6) == Span(0.0, lasts=True)
