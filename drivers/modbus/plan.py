"""The read planner: points -> the fewest requests that the device accepts. Pure and deterministic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drivers.base import Point
from drivers.modbus.register import BIT_TABLES, READ_FUNCTION, register_of

Range = tuple[str, int, int]
"""(table, first address, how many). How many = 0 is a cut: no request may reach across `first`."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may be.

    A hole of up to `bridge` registers (or as many bytes of bits) is read along. `single` means one point per request.
    `avoid` is never read unless a point stands in it; such a point is asked for alone.
    """

    max_registers: int = 125
    max_bits: int = 2000
    bridge: int = 0
    single: bool = False
    avoid: tuple[Range, ...] = ()


def plan(points: Sequence[Point], limits: Limits) -> list[tuple[Point, ...]]:
    """Group points so that each group is one request.

    Tables never mix; a point wider than the limit stands alone, and so do registers that reading clears.
    """
    tables = list(READ_FUNCTION)
    order = sorted(points, key=lambda point: _place(point, tables))
    groups: list[list[Point]] = []
    for point in order:
        if groups and _joins(groups[-1], point, limits):
            groups[-1].append(point)
        else:
            groups.append([point])
    return [tuple(group) for group in groups]


def span(points: Sequence[Point]) -> Range:
    """The range that one request for all of them reads."""
    registers = [register_of(point) for point in points]
    first = min(register.at for register in registers)
    return registers[0].table, first, max(register.end for register in registers) - first


def crosses(avoid: Sequence[Range], table: str, first: int, count: int) -> bool:
    """Whether a request for this range would touch one of `avoid`."""
    return any(table == other and first < at + many and at < first + count for other, at, many in avoid)


def _place(point: Point, tables: list[str]) -> tuple[int, int, int, str]:
    register = register_of(point)
    return tables.index(register.table), register.at, register.end, point.name


def _joins(group: list[Point], point: Point, limits: Limits) -> bool:
    """Whether one request may serve the group and the point, which stands behind it or overlaps it."""
    register = register_of(point)
    table, first, count = span(group)
    if limits.single or register.table != table:
        return False
    if point.read_clears or group[0].read_clears:
        # One reading resets the registers: values of the very same ones share it, and nothing else comes along.
        return (first, count) == (register.at, register.count)
    bits = table in BIT_TABLES
    if register.at - (first + count) > limits.bridge * (16 if bits else 1):
        return False
    whole = max(first + count, register.end) - first
    if whole > (limits.max_bits if bits else limits.max_registers):
        return False
    return not crosses(limits.avoid, table, first, whole)
