"""What a request costs on the wire, before it is sent. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from drivers.base import Driver, Exchange, Point
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


class Planned(NamedTuple):
    """One request of a plan: the points it answers, how it looks, and its bus time in seconds."""

    points: tuple[Point, ...]
    step: Exchange
    seconds: float


def planned(driver: Driver, points: Sequence[Point], port: SerialPort | TcpPort) -> list[Planned]:
    """Return the requests that read these points."""
    requests = []
    for group in driver.plan(points):
        step = next(driver.poll(group, 0.0))
        if isinstance(step, Exchange):
            requests.append(Planned(group, step, exchange_seconds(step, port)))
    return requests
