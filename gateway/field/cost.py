"""What a request costs on the wire, before it is sent. Pure."""

from __future__ import annotations

from drivers.base import Exchange
from gateway.model import SerialPort, TcpPort

RESPONSE_TIME = 0.010
"""Seconds from the end of a request to the start of the reply, until the device has shown its own figure."""
TCP_ROUND_TRIP = 0.002


def silence(port: SerialPort) -> float:
    """Return t3.5 in seconds: 3.5 characters, fixed at 1.75 ms above 19200 baud (Modbus serial line V1.02, 2.5.1.1)."""
    return 0.00175 if port.baud > 19200 else 3.5 * port.bits / port.baud


def exchange_seconds(step: Exchange, port: SerialPort | TcpPort, response: float = RESPONSE_TIME) -> float:
    """Return the bus time of one exchange: both frames, the device's response time, the silence before each."""
    if isinstance(port, TcpPort):
        return TCP_ROUND_TRIP + response
    characters = len(step.request) + step.reply_size
    return characters * port.bits / port.baud + response + 2 * silence(port)
