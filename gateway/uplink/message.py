"""What goes over a session: messages, their labels, and how the broker answers. Pure."""

from __future__ import annotations

from typing import NamedTuple

SUCCESS, NOBODY_LISTENS, FAILURES = 0x00, 0x10, 0x80
"""PUBACK reason codes (MQTT 5 section 3.4.2.1): from FAILURES on the broker did not take the message."""
TOO_LARGE = 0x95
"""A message that was not sent: the broker takes none of that size."""


class Labels(NamedTuple):
    """MQTT 5 properties of a message: its content type and user properties."""

    content_type: str
    user: tuple[tuple[str, str], ...] = ()


class Incoming(NamedTuple):
    """A message from the broker."""

    topic: str
    payload: bytes
    retain: bool
    qos: int
    mid: int


class Will(NamedTuple):
    """What the broker publishes, retained, when the connection ends without a goodbye."""

    topic: str
    payload: bytes
