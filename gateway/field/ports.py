"""Which link a bus has."""

from __future__ import annotations

from gateway.clock import Clock
from gateway.field.link import Link
from gateway.field.serial_link import SerialLink
from gateway.field.tcp_link import TcpLink
from gateway.model import Bus, SerialPort


def link_of(bus: Bus, clock: Clock) -> Link:
    """Build the link of a bus, closed."""
    if isinstance(bus.port, SerialPort):
        return SerialLink(bus.port, clock)
    return TcpLink(bus.port, clock, numbered=bus.framing == "tcp")
