"""What is worth reporting: deadbands, and the three points of a counter. Pure: the time is passed in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from drivers.base import GOOD, UNCERTAIN_RESTARTED, Point, Sample

HEARTBEAT_MS = 600_000
"""A value inside its deadband is repeated after this long, so that silence never looks like a steady value."""


@dataclass(slots=True)
class Counter:
    """The running total of one counter: raw value seen last, total since the first, generation."""

    raw: float
    total: float
    generation: int = 0

    def step(self, raw: float, wraps_at: float | None, decimals: int | None) -> str:
        """Take the next raw value and return the quality of the total.

        A fall from the top tenth of the range to the bottom tenth is a wrap; any other fall is a restart of the
        device: what it counted since then is added, and the generation grows.
        """
        quality = GOOD
        delta = raw - self.raw
        if delta < 0:
            if wraps_at is not None and self.raw >= 0.9 * wraps_at and raw < 0.1 * wraps_at:
                delta += wraps_at
            else:
                delta = raw
                self.generation += 1
                quality = UNCERTAIN_RESTARTED
        total = self.total + delta
        # Differences of decimal fractions leave crumbs (0.30000000000000004); no meter resolves a millionth.
        self.raw, self.total = raw, round(total, 6 if decimals is None else decimals)
        return quality

    def add(self, raw: float, decimals: int | None) -> None:
        """Take a raw value that reading has set back to zero in the device."""
        self.raw, self.total = raw, round(self.total + raw, 6 if decimals is None else decimals)


@dataclass(slots=True)
class Report:
    """What one device has told so far, and what of it the IOC needs to hear."""

    counters: dict[str, Counter] = field(default_factory=dict)
    suppressed: int = 0
    _points: dict[str, Point] = field(default_factory=dict)
    _said: dict[str, tuple[Sample, int]] = field(default_factory=dict)
    _plain: bool = True

    @classmethod
    def of(cls, points: Iterable[Point], counters: Mapping[str, Sequence[Any]] | None = None) -> Report:
        """Start with what an earlier run has left in `counters`: {point: [raw, total, generation]}."""
        known = {point.name: point for point in points}
        plain = not any(point.deadband is not None or point.kind == "counter" for point in known.values())
        left = {name: Counter(*state) for name, state in (counters or {}).items() if name in known}
        return cls(counters=left, _points=known, _plain=plain)

    def state(self) -> dict[str, list[float]]:
        """Return what the next run needs to know."""
        return {name: [c.raw, c.total, c.generation] for name, c in self.counters.items()}

    def select(self, samples: list[Sample], at: int) -> list[Sample]:
        """Return the samples to report at monotonic ms `at`: deadbands applied, totals of counters added."""
        if self._plain:
            return samples
        told: list[Sample] = []
        for sample in samples:
            point = self._points[sample.point]
            if point.deadband is not None and self._is_quiet(sample, point.deadband, at):
                self.suppressed += 1
            else:
                told.append(sample)
            if point.kind == "counter":
                told += self._totals(point, sample)
        return told

    def _is_quiet(self, sample: Sample, deadband: float, at: int) -> bool:
        last, when = self._said.get(sample.point, (None, 0))
        if (
            last is not None
            and at - when < HEARTBEAT_MS
            and last.quality == sample.quality
            and isinstance(sample.value, int | float)
            and isinstance(last.value, int | float)
            and abs(sample.value - last.value) < deadband
        ):
            return True
        self._said[sample.point] = (sample, at)
        return False

    def _totals(self, point: Point, sample: Sample) -> list[Sample]:
        if not isinstance(sample.value, int | float):
            return []
        counter = self.counters.get(point.name)
        quality = GOOD
        if point.read_clears:
            counter = self.counters.setdefault(point.name, Counter(0, 0))
            counter.add(sample.value, point.decimals)
        elif counter is None:
            counter = self.counters[point.name] = Counter(sample.value, 0)
        else:
            quality = counter.step(sample.value, point.wraps_at, point.decimals)
        return [
            Sample(f"{point.name}.total", counter.total, quality),
            Sample(f"{point.name}.gen", counter.generation, quality),
        ]
