"""Values that move like the real thing: what a point's register carries at a moment. Pure.

Everything follows from (seed, device, point, time): a simulator that is started again goes on where it was.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from hashlib import blake2b
from typing import NamedTuple

from drivers.base import Point
from gateway.simulator.registers import BIT_TABLES, Raw, integer_range, where

Motion = Callable[[float], Raw]
"""Seconds since 1970 UTC -> raw value."""

DAY = 86400.0
_EPOCH = 1_767_200_400.0  # 2026-01-01 00:00 in Viet Nam: days begin there, and counters count from there
_LIFE = 5 * 365 * DAY  # counters begin anew after this, so that a clock of 1970 counts as well
_MASK = (1 << 64) - 1
_SWING = 0.6


class Curve(NamedTuple):
    """A gauge: mean, how far the day moves it (towards its peak hour), noise, decimals of a register that has none."""

    mean: float
    daily: float
    noise: float
    decimals: int
    peak: float = 19.0


_DAYLIGHT = -1.0  # as peak hour: nothing at night

_BY_NAME: tuple[tuple[str, str, Curve], ...] = (
    (r"power_factor|cos_phi|\bpf", "1", Curve(0.93, 0.03, 0.004, 3)),
    (r"battery", "V", Curve(12.6, 0.4, 0.02, 2, 13)),
    (r"battery", "%", Curve(85, 8, 0.3, 1, 15)),
    (r"l1_?l2|l2_?l3|l3_?l1|l12|l23|l31", "V", Curve(398, -5, 0.6, 1)),
    (r"thd", "%", Curve(2.6, 0.8, 0.1, 2)),
    (r"power_factor", "%", Curve(93, 3, 0.4, 1)),
    (r"speed|rpm", "1", Curve(1480, 40, 6, 0)),
)
_BY_UNIT: dict[str, Curve] = {
    "V": Curve(230, -3, 0.4, 1),
    "A": Curve(12, 6, 0.25, 3),
    "mA": Curve(350, 60, 4, 1),
    "W": Curve(2700, 1400, 50, 1),
    "kW": Curve(2.7, 1.4, 0.05, 3),
    "var": Curve(640, 300, 15, 1),
    "kvar": Curve(0.64, 0.3, 0.015, 3),
    "V.A": Curve(2800, 1450, 50, 1),
    "kV.A": Curve(2.8, 1.45, 0.05, 3),
    "Hz": Curve(50, 0, 0.02, 2),
    "Cel": Curve(30, 5, 0.1, 1, 14),
    "%": Curve(60, 15, 0.5, 1),
    "m3/h": Curve(6, 4, 0.12, 3),
    "m3/s": Curve(0.0017, 0.0011, 0.00003, 6),
    "L/s": Curve(1.7, 1.1, 0.03, 3),
    "L/min": Curve(100, 65, 2, 1),
    "m/s": Curve(1.8, 0.8, 0.08, 2),
    "km/h": Curve(42, -12, 3, 1, 8),
    "m": Curve(3.2, 0.6, 0.01, 3),
    "cm": Curve(320, 60, 1, 1),
    "mm": Curve(3200, 600, 5, 0),
    "bar": Curve(3.2, -0.5, 0.02, 2),
    "kPa": Curve(320, -50, 2, 1),
    "MPa": Curve(0.32, -0.05, 0.002, 4),
    "hPa": Curve(1008, 3, 0.1, 1, 9),
    "mbar": Curve(1008, 3, 0.1, 1, 9),
    "/min": Curve(1480, 40, 6, 0),
    "{rpm}": Curve(1480, 40, 6, 0),
    "{rev}/min": Curve(1480, 40, 6, 0),
    "rpm": Curve(1480, 40, 6, 0),
    "lx": Curve(0, 48000, 400, 0, _DAYLIGHT),
    "W/m2": Curve(0, 850, 8, 1, _DAYLIGHT),
    "dB": Curve(58, 8, 1.2, 1, 17),
    "ug/m3": Curve(35, 15, 1.5, 1, 8),
    "deg": Curve(180, 60, 8, 1, 12),
}
_ANY = Curve(50, 20, 0.8, 2)

_PER_HOUR: dict[str, float] = {
    "kW.h": 2.7, "W.h": 2700, "MW.h": 0.0027, "kvar.h": 0.64, "var.h": 640, "kV.A.h": 2.8, "m3": 6, "L": 6000,
    "GJ": 0.01, "h": 1, "min": 60, "s": 3600, "1": 240,
}  # fmt: skip
_COUNT_PER_HOUR = 60.0
_BACKWARD = re.compile("export|reverse|negative")


def motion(seed: int, device: str, point: Point, since: float | None = None) -> Motion:
    """How this point moves. A writable point stands still until somebody writes it.

    `since` is when the device last started and its counters began from zero; None: years ago.
    """
    at, key = where(point), _key(seed, device, point.name)
    if at.type == "string":
        text = f"SIM-{key:016X}"[: max(1, 2 * at.count - 1)]
        return lambda _: text
    bits = at.type == "bit" or at.table in BIT_TABLES
    if point.labels or bits or point.kind in ("state", "alarm", "text", "config"):
        codes = _codes(point)
        if point.writable or point.kind in ("text", "config"):
            return lambda _: codes[0]
        return _walk(key, codes) if point.labels or point.kind == "state" else _alarm(key, codes)
    counts = point.kind == "counter"
    moving = _counter(seed, device, point, key, since) if counts else _gauge(seed, device, point, key)
    if point.writable:
        still = moving(_EPOCH if since is None else since)
        return lambda _: still
    return moving


def _key(*parts: object) -> int:
    return int.from_bytes(blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest(), "big")


def _chance(key: int, step: int = 0) -> float:
    """Noise of step `step` in -1..1: splitmix64, because a generator object per value costs ten times as much."""
    x = (key + step * 0x9E3779B97F4A7C15) & _MASK
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & _MASK
    return (x ^ x >> 31) / (1 << 63) - 1.0


def _day(t: float, peak: float) -> float:
    """The shape of a day, -0.5..1, highest at the peak hour."""
    x = math.tau * ((t - _EPOCH) / DAY - peak / 24)
    return 0.7 * math.cos(x) + 0.3 * math.cos(2 * x)


def _day_sum(t: float, peak: float) -> float:
    """Integral of `_day` in seconds."""
    x = math.tau * ((t - _EPOCH) / DAY - peak / 24)
    return (0.7 * math.sin(x) + 0.15 * math.sin(2 * x)) * DAY / math.tau


def _gauge(seed: int, device: str, point: Point, key: int) -> Motion:
    curve, bounds = _curve(point), _bounds(point)
    load = 0.3 * _chance(_key(seed, device)) + 0.1 * _chance(key)
    sunny = curve.peak == _DAYLIGHT
    mean, daily, noise = curve.mean + (0 if sunny else load * abs(curve.daily)), curve.daily, curve.noise
    reach = abs(daily) + 1.5 * noise
    if mean + reach > bounds[1] or mean - (0 if sunny else reach) < bounds[0]:
        low, high = max(bounds[0], -1000.0), min(bounds[1], max(bounds[0], -1000.0) + 2000.0)
        mean, daily, noise = (low + high) / 2, (high - low) / 5, (high - low) / 100
    settle = _settler(point, curve.decimals)

    def at(t: float) -> Raw:
        wander = 0.6 * math.sin(t / 37 + key % 97) + 0.4 * _chance(key, int(t * 1000))
        if sunny:
            sun = max(0.0, math.sin(math.tau * ((t - _EPOCH) / DAY - 0.25)))
            return settle(mean + sun * (daily * (0.6 + load) + noise * wander))
        return settle(mean + daily * _day(t, curve.peak) + noise * wander)

    return at


def _counter(seed: int, device: str, point: Point, key: int, since: float | None) -> Motion:
    """Rises with the daily curve and never falls; a register too narrow for it wraps, as a real one does."""
    rate = _PER_HOUR.get(point.unit, _COUNT_PER_HOUR) / 3600 * (1 + 0.15 * _chance(_key(seed, device)))
    rate *= 0.02 if _BACKWARD.search(point.name) else 1.0
    swing = 0.0 if point.unit in ("h", "min", "s") else _SWING
    low, high = _bounds(point)
    low = max(low, 0.0)
    origin = _EPOCH if since is None else since
    start = low if since is not None else low + (1 + _chance(key)) * rate * 90 * DAY
    wraps = integer_range(where(point)) is not None
    settle = _settler(point, 3)

    def at(t: float) -> Raw:
        elapsed = (t - origin) % _LIFE
        total = start + rate * (elapsed + swing * (_day_sum(origin + elapsed, 19.0) - _day_sum(origin, 19.0)))
        return settle(low + (total - low) % (high - low + abs(point.scale)) if wraps else total)

    return at


def _walk(key: int, codes: tuple[int, ...]) -> Motion:
    """A state: one code after the other, each for a minute or three."""
    dwell = 60 + key % 120
    return lambda t: codes[(int(t) // dwell + key) % len(codes)]


def _alarm(key: int, codes: tuple[int, ...]) -> Motion:
    """Calm, and rarely something for some minutes."""
    dwell = 180 + key % 240

    def at(t: float) -> Raw:
        step = int(t) // dwell
        if _chance(key, step) < 0.75:
            return codes[0]
        return codes[1 + (step + key) % (len(codes) - 1)] if len(codes) > 1 else codes[0]

    return at


def _codes(point: Point) -> tuple[int, ...]:
    """The raw codes that a state may take, calm first."""
    low, high = _raw_bounds(point)
    first = int(max(low, 0))
    if point.labels:
        codes = [code for code in point.labels if low <= code <= high]
    elif point.kind == "alarm" and high > 1:
        codes = [first, *(1 << bit for bit in range(16) if first < 1 << bit <= min(high, 8))]
    else:
        codes = list(range(first, int(min(first + 3, high)) + 1))
    return tuple(code for code in codes if code not in point.sentinels) or (0,)


def _curve(point: Point) -> Curve:
    for pattern, unit, curve in _BY_NAME:
        if unit == point.unit and re.search(pattern, point.name):
            return curve
    return _BY_UNIT.get(point.unit, _ANY)


def _raw_bounds(point: Point) -> tuple[float, float]:
    """The raw values that the register can carry and that stay inside the point's limits."""
    limits = (-math.inf if point.low is None else point.low), (math.inf if point.high is None else point.high)
    low, high = sorted((limit - point.offset) / point.scale for limit in limits)
    carried = integer_range(where(point))
    if carried is None:
        return low, high
    return math.ceil(max(carried[0], low)), math.floor(min(carried[1], high))


def _bounds(point: Point) -> tuple[float, float]:
    low, high = sorted(raw * point.scale + point.offset for raw in _raw_bounds(point))
    return low, high


def _settler(point: Point, decimals: int) -> Callable[[float], Raw]:
    """Value -> what the register can carry: the raw step, the range, never a sentinel by accident."""
    low, high = _raw_bounds(point)
    integer = integer_range(where(point)) is not None
    scale, offset, sentinels = point.scale, point.offset, point.sentinels

    def settle(value: float) -> Raw:
        raw: float = round((value - offset) / scale) if integer else (round(value, decimals) - offset) / scale
        raw = min(max(raw, low), high)
        step = 1 if raw <= low + len(sentinels) else -1
        while raw in sentinels:
            raw += step
        return raw

    return settle
