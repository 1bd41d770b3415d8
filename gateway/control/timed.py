"""Small conversations around those of the drivers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from drivers.base import BusError, Step, Talk

T = TypeVar("T")


def timed(talk: Talk[T], now: Callable[[], float], took: list[float]) -> Talk[T]:
    """The same conversation; `took` gets the seconds of each of its steps on the bus."""
    try:
        step: Step = next(talk)
        while True:
            began = now()
            try:
                reply = yield step
            except BusError as error:
                took.append(now() - began)
                step = talk.throw(error)
            else:
                took.append(now() - began)
                step = talk.send(reply)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def nothing() -> Talk[None]:
    """Say nothing: it is held as soon as the port is open."""
    yield from ()


def in_ms(took: list[float]) -> float:
    """Return the sum of seconds in ms, for people and machines."""
    return round(sum(took) * 1000, 1)
