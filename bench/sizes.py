"""Bytes per reading of the reference workload: 15 meters with 4 tags, values that walk at random."""

from __future__ import annotations

import random

from drivers.base import Sample
from gateway.model import Batch, Readings
from gateway.uplink.payload.native import encode_blocks, message

START = 5_000_000
NAMES = ("voltage", "current", "power", "energy")


def walk(rows: int, seed: int) -> list[Readings]:
    """So many rows of all meters, one second apart."""
    dice = random.Random(seed)
    start = lambda: [dice.gauss(230, 2), dice.uniform(1, 40), dice.uniform(1e2, 9e3), dice.uniform(1e3, 1e5)]
    state = [start() for _ in range(15)]
    found = []
    for row in range(rows):
        for meter, (volt, ampere, watt, hours) in enumerate(state, 1):
            state[meter - 1] = [
                volt + dice.gauss(0, 0.3),
                abs(ampere + dice.gauss(0, 0.2)),
                abs(watt + dice.gauss(0, 20)),
                hours + watt / 3.6e6,
            ]
            values = (round(volt, 1), round(ampere, 2), round(watt), round(hours, 2))
            samples = [Sample(name, value) for name, value in zip(NAMES, values, strict=True)]
            found.append(Readings(f"meter-{meter}", "a1b2c3d4", START + 1000 * row + 40 * meter, samples))
    return found


def bytes_per_reading(rows: int, seed: int) -> float:
    """Size of the whole message, envelope included, per reading."""
    readings = walk(rows, seed)
    zipped, data = encode_blocks(readings, START)
    epoch = f"12-{random.Random(seed).randbytes(8).hex()}"
    batch = Batch(epoch, "t", 4711, "0123456789ab", 1_790_000_000_000, START, "synced", 60 * rows, zipped, data)
    return len(message("tn-p1-cab-014", batch)) / (60 * rows)
