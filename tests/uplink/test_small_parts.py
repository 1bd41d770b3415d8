"""The pure parts of the uplink: topics, what the IOC says, holds, sentences about trouble."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any

import pytest

from gateway.errors import UplinkError
from gateway.model import StoreSettings, Uplink
from gateway.uplink import bodies, down, trouble
from gateway.uplink.holds import NOBODY_LISTENS, REFUSED, Holds
from gateway.uplink.message import Incoming
from gateway.uplink.topics import Topics
from gateway.uplink.waiting import Inbox, rest


def test_names_cannot_break_out_of_their_topic() -> None:
    topics = Topics("city", "gw-1")
    assert topics("up/status") == "city/v1/gw-1/up/status"
    assert topics("up/birth", "tầng 1/#+\0", "a1b2c3d4") == "city/v1/gw-1/up/birth/tầng 1____/a1b2c3d4"
    assert topics.tail("city/v1/gw-1/dn/ack") == "dn/ack"


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ([], ()),
        ([[5, 7], [1, 2]], ((1, 2), (5, 7))),
        ([[1, 2], [3, 3], [2, 9]], ((1, 9),)),
        ([[1, 9], [2, 3]], ((1, 9),)),
    ],
)
def test_ranges_are_put_in_order(ranges: Any, expected: Any) -> None:
    told = down.told(json.dumps({"epoch": "1-x", "stream": "t", "ranges": ranges}).encode())
    assert told.ranges == expected
    assert told.total == sum(last - first + 1 for first, last in expected)


def test_rebirth_names_both_or_none() -> None:
    assert down.rebirth(b"") is None
    assert down.rebirth(b"{}") is None
    assert down.rebirth(b'{"device": "m", "cfg": "c"}') == ("m", "c")
    for half in (b'{"device": "m"}', b'{"cfg": "c"}', b'{"device": 1, "cfg": "c"}'):
        with pytest.raises(ValueError, match="both device and cfg"):
            down.rebirth(half)


def test_a_held_stream_is_probed_with_growing_delay() -> None:
    holds = Holds()
    assert holds.held(0.0) == {}
    [raised] = holds.failed("t", NOBODY_LISTENS, "nobody", 100.0)
    assert (raised["id"], raised["state"]) == ("nobody-listens/t", "raised")
    assert holds.failed("t", NOBODY_LISTENS, "nobody", 100.0) == []  # the rest of the window
    now, delays = 100.0, []
    for _ in range(8):
        delays.append(holds.held(now)["t"])
        now += delays[-1]
        assert holds.held(now) == {}
        holds.probe("t")
        holds.probe("e")
        assert holds.held(now).keys() == {"t"}  # one probe at a time
        assert holds.failed("t", NOBODY_LISTENS, "nobody", now) == []
    assert delays == [1, 2, 4, 8, 16, 30, 30, 30]
    [cleared] = holds.worked("t")
    assert (cleared["id"], cleared["state"]) == ("nobody-listens/t", "cleared")
    assert holds.worked("t") == []
    assert holds.held(now) == {}


def test_another_reason_is_another_event() -> None:
    holds = Holds()
    holds.failed("t", NOBODY_LISTENS, "nobody", 0.0)
    events = holds.failed("t", REFUSED, "no", 0.0)
    assert [(event["id"], event["state"]) for event in events] == [
        ("nobody-listens/t", "cleared"),
        ("refused/t", "raised"),
    ]


def test_a_probe_that_is_lost_or_not_sent_is_made_again() -> None:
    holds = Holds()
    holds.failed("t", REFUSED, "no", 0.0)
    holds.probe("t")
    assert holds.held(2.0)
    holds.forget_probes()
    assert not holds.held(2.0)
    holds.probe("t")
    holds.skipped("t")
    holds.skipped("e")
    assert not holds.held(2.0)


@pytest.mark.parametrize(
    ("code", "words"), [(10, "expired"), (9, "not valid yet"), (62, "another name"), (20, "not signed")]
)
def test_distrust_is_explained(code: int, words: str) -> None:
    error = ssl.SSLCertVerificationError("x")
    error.verify_code, error.verify_message = code, "unable to get local issuer certificate"
    assert words in str(trouble.unreachable("mqtts://b", error, Uplink(())))


def test_other_trouble_names_itself() -> None:
    assert "No route to host" in str(trouble.unreachable("mqtt://b", OSError(113, "No route to host"), Uplink(())))
    assert "handshake failed" in str(trouble.unreachable("mqtt://b", ssl.SSLError(1, "[SSL] bad"), Uplink(())))


def test_the_loss_window_is_what_power_cuts_can_cost() -> None:
    assert bodies.loss_window(StoreSettings(linger=1.0, commit_every=2.0)) == 3.0
    assert bodies.loss_window(StoreSettings(durability="strict")) == 0.0


async def test_what_arrives_is_bounded() -> None:
    inbox = Inbox()
    small, large = (Incoming("x", bytes(size), False, 0, 0) for size in (1, 3 * 2**20))
    assert [inbox.put(large) for _ in range(5)] == [True, True, True, False, False]
    assert inbox.put(large._replace(qos=1)), "of these the broker sends no more than it may"
    for _ in range(4):
        await inbox.next()
    assert sum(inbox.put(small) for _ in range(1500)) == 1000
    assert inbox.discarded == 502
    inbox.end("the connection was lost")
    for _ in range(1000):
        await inbox.next()
    with pytest.raises(UplinkError, match="lost"):
        await inbox.next()


async def test_a_rest_that_is_cancelled_as_its_event_comes_is_cancelled() -> None:
    """A part of a connection that went on after its end kept the gateway from connecting again."""
    event = asyncio.Event()
    resting = asyncio.create_task(rest(event, 60.0))
    await asyncio.sleep(0)
    event.set()
    resting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await resting
