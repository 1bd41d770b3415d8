"""The registers of one device at one moment. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from drivers.base import Point
from gateway.simulator.registers import BIT_TABLES, where

_HOLE = 16
"""Points closer than this many registers stand in one area; the hole between them answers 0."""


class Area(NamedTuple):
    """Registers (or bits) start..end-1 of a table: what can be read in one request. `block` numbers its block."""

    start: int
    end: int
    block: int
    width: int
    """Bytes per address in the block: 2 a register, 1 a bit."""


class Write(NamedTuple):
    """New content from address `at` on: two bytes a register, one byte (0 or 1) a bit."""

    table: str
    at: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Layout:
    """Which registers a device has, and which of them may be written."""

    areas: dict[str, tuple[Area, ...]]
    writable: dict[str, frozenset[int]]

    def area(self, table: str, at: int, count: int = 1) -> Area | None:
        """The area that holds all of these addresses."""
        for area in self.areas.get(table, ()):
            if area.start <= at and at + count <= area.end:
                return area
        return None

    def may_write(self, table: str, at: int, count: int) -> bool:
        return self.writable.get(table, frozenset()).issuperset(range(at, at + count))

    def blank(self) -> list[bytearray]:
        """Empty blocks, one an area."""
        areas = sorted((area for areas in self.areas.values() for area in areas), key=lambda area: area.block)
        return [bytearray((area.end - area.start) * area.width) for area in areas]


@dataclass(frozen=True, slots=True)
class Image:
    """What a device's registers hold: one block an area."""

    layout: Layout
    blocks: tuple[bytes, ...]

    def read(self, table: str, at: int, count: int) -> bytes | None:
        """The bytes of these registers or bits; None where the device has none."""
        area = self.layout.area(table, at, count)
        if area is None:
            return None
        return self.blocks[area.block][(at - area.start) * area.width : (at + count - area.start) * area.width]

    def written(self, write: Write) -> Image:
        """The image after a write that `may_write` allows."""
        blocks = [bytearray(block) for block in self.blocks]
        overlay(self.layout, blocks, write)
        return replace(self, blocks=tuple(map(bytes, blocks)))


def overlay(layout: Layout, blocks: list[bytearray], write: Write) -> None:
    """Put a write into the blocks, address by address."""
    width = 1 if write.table in BIT_TABLES else 2
    for i in range(len(write.data) // width):
        area = layout.area(write.table, write.at + i)
        if area is not None:
            offset = (write.at + i - area.start) * width
            blocks[area.block][offset : offset + width] = write.data[i * width : (i + 1) * width]


def layout_of(points: Iterable[Point]) -> Layout:
    """Only what a device's points need exists, and the small holes between them."""
    used: dict[str, set[int]] = {}
    writable: dict[str, set[int]] = {}
    for point in points:
        at = where(point)
        addresses = range(at.at, at.at + at.count)
        used.setdefault(at.table, set()).update(addresses)
        if point.writable:
            writable.setdefault(at.table, set()).update(addresses)
    areas: dict[str, tuple[Area, ...]] = {}
    index = 0
    for table, addresses_used in used.items():
        width = 1 if table in BIT_TABLES else 2
        runs = _runs(sorted(addresses_used))
        areas[table] = tuple(Area(a, b, index + i, width) for i, (a, b) in enumerate(runs))
        index += len(runs)
    return Layout(areas, {table: frozenset(addresses) for table, addresses in writable.items()})


def _runs(addresses: list[int]) -> list[tuple[int, int]]:
    """Ascending addresses -> half-open runs, across small holes."""
    cuts = [(a, b) for a, b in pairwise(addresses) if b - a > _HOLE]
    starts = [addresses[0], *(b for _, b in cuts)]
    ends = [*(a + 1 for a, _ in cuts), addresses[-1] + 1]
    return list(zip(starts, ends, strict=True))
