"""Whom a scan asks next, and at which speed: likeliest first, and what came of one attempt changes the order. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from drivers.base import Line

BAUDS = (9600, 19200, 4800, 2400, 38400, 57600, 115200, 1200)
FORMATS = ("8N1", "8E1", "8N2", "8O1")
EXPECTED = 4
"""Of the units in the site file, so many are asked early at other settings too: one that answers is enough."""


class Attempt(NamedTuple):
    """Ask this unit, at this setting of the line; None where there is none to set."""

    line: Line | None
    unit: int


@dataclass(slots=True)
class Lane:
    """One setting of the line, and who is still to be asked there: first those that are likely."""

    line: Line | None
    likely: deque[int]
    rest: deque[int]
    found: int = 0
    garbled: int = 0

    def __len__(self) -> int:
        return len(self.likely) + len(self.rest)

    def take(self, unit: int) -> bool:
        """Do not ask this unit here any more; whether it was still to be asked."""
        for waiting in (self.likely, self.rest):
            if unit in waiting:
                waiting.remove(unit)
                return True
        return False


class Attempts:
    """Gives every unit at every setting once.

    All devices of a line share one setting: where one was found, the others come first, and it is not looked for
    elsewhere. Where something answered that could not be read, the device has another setting: the same unit is asked
    soon at the others, first at this speed.
    """

    def __init__(self, lines: Iterable[Line | None], units: Sequence[int], first: Sequence[int] = ()) -> None:
        self._lanes: list[Lane] = []
        self._garbled_bauds: set[int] = set()
        wanted = set(units)
        for line in dict.fromkeys(lines):
            here = first if not self._lanes else first[:EXPECTED]
            likely = [unit for unit in dict.fromkeys(here) if unit in wanted]
            rest = [unit for unit in spread(units) if unit not in likely]
            self._lanes.append(Lane(line, deque(likely), deque(rest)))

    def __iter__(self) -> Iterator[Attempt]:
        while lanes := [lane for lane in self._lanes if lane]:
            lane = min(lanes, key=self._order)  # the earlier of two equal ones
            yield Attempt(lane.line, (lane.likely or lane.rest).popleft())

    def found(self, attempt: Attempt) -> None:
        """A unit has answered."""
        for lane in self._lanes:
            lane.found += lane.line == attempt.line
            lane.take(attempt.unit)

    def garbled(self, attempt: Attempt) -> None:
        """Bytes came that could not be read: this unit probably has another setting."""
        here = self._lane(attempt.line)
        here.garbled += 1
        if attempt.line is not None:
            self._garbled_bauds.add(attempt.line.baud)
        for lane in self._lanes:
            if lane is not here and lane.take(attempt.unit):
                lane.likely.appendleft(attempt.unit)

    def drop(self, line: Line | None) -> None:
        """The port cannot be set so, or nothing more is to be learned there."""
        lane = self._lane(line)
        lane.likely.clear()
        lane.rest.clear()

    def left(self) -> list[tuple[Line | None, int]]:
        """Return how many attempts are left at each setting that has any."""
        return [(lane.line, len(lane)) for lane in self._lanes if lane]

    def _lane(self, line: Line | None) -> Lane:
        return next(lane for lane in self._lanes if lane.line == line)

    def _order(self, lane: Lane) -> tuple[bool, bool, bool, bool]:
        suspect = lane.line is not None and lane.line.baud in self._garbled_bauds
        return not lane.found, not lane.likely, lane.garbled > 0, not suspect


def lines(own: Line, factory: Iterable[Line], baud: int | None = None, form: str | None = None) -> list[Line]:
    """Return the settings to try, likeliest first: the line's own, those of factories, the usual ones.

    `baud` and `form` leave only settings with these.
    """
    bauds = BAUDS if baud is None else (baud,)
    forms = FORMATS if form is None else (form,)
    usual = [Line(speed, each) for speed in bauds for each in forms]
    every = dict.fromkeys([own, *factory, *usual])
    return [line for line in every if baud in (None, line.baud) and form in (None, line.format)]


def spread(units: Iterable[int]) -> list[int]:
    """Order units so that any beginning of the list is spread over all of them: by the mirrored bits of the number."""
    return sorted(dict.fromkeys(units), key=lambda unit: int(f"{unit:08b}"[::-1], 2))


def parse_units(text: str, low: int, high: int) -> list[int]:
    """Read "1-10,20". ValueError with a sentence when it is none, or reaches outside low..high."""
    units: list[int] = []
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        last = last if dash else first
        if not (first.isascii() and first.isdigit() and last.isascii() and last.isdigit()) or len(first + last) > 6:
            raise ValueError(f"{text[:60]!r} are no units: write 5, or 1-247, or 1-20,100")
        if not low <= int(first) <= int(last) <= high:
            raise ValueError(f"{part.strip()} is outside {low}-{high}, the units there can be")
        units += range(int(first), int(last) + 1)
    return list(dict.fromkeys(units))
