"""Draws the two pictures of docs/bus.md from a real run: simulated devices, the agent's own poller.

python docs/bus_pictures.py        writes docs/bus-frames.svg and docs/bus-recovery.svg, in about a minute
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from drivers.base import Point
from drivers.modbus.register import Register
from gateway.app import event_loop
from gateway.clock import Clock
from gateway.field.cost import silence
from gateway.field.poller import Poller
from gateway.field.ports import link_of
from gateway.field.talks import Partner, Traced
from gateway.model import Bus, Device, Readings, SerialPort, Site, StoreSettings, Uplink
from gateway.simulator import Simulator

HERE = Path(__file__).parent
BLUE, ORANGE, GREEN, GREY, RED, INK = "#0072B2", "#E69F00", "#009E73", "#D9D9D9", "#D55E00", "#1A1A1A"
"""Okabe-Ito: told apart by colour-blind eyes, and in grey."""
WIDTH, LEFT = 1200, 150
TEN = tuple(range(1, 11))


class Nowhere:
    """Where readings go that nobody keeps."""

    async def append(self, readings: Readings) -> None: ...

    async def append_message(self, stream: str, body: Mapping[str, Any]) -> None: ...


def bus_of(path: str, baud: int, units: Sequence[int], every: float | None) -> Bus:
    points = tuple(Point(f"p{k}", Register("holding", k), every=every) for k in range(20))
    devices = tuple(
        Device(f"meter-{unit}", "modbus", unit, points, options={"unit": unit, "framing": "rtu"}) for unit in units
    )
    return Bus("rs485-1", SerialPort(path, baud), "rtu", devices)


async def run(bus: Bus, seconds: float, script: Any) -> tuple[float, list[Traced]]:
    """Poll the simulated bus for so long; return when it began and every exchange. `script` runs beside it."""
    simulator = Simulator(Site("pictures", "", "system", Uplink(()), StoreSettings(), (bus,)))
    serving = asyncio.create_task(simulator.run())
    await simulator.ready.wait()
    clock = Clock("system")
    poller = Poller(bus, link_of(bus, clock), clock, Nowhere(), start=clock.monotonic())
    seen: list[Traced] = []
    poller.talks.watchers.append(seen.append)
    began = clock.monotonic()
    tasks = [serving, asyncio.create_task(poller.run()), asyncio.create_task(script(simulator, poller))]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return began, seen


async def frames(path: str) -> str:
    """Half a second in which everything happens that can happen to a frame."""

    async def script(simulator: Simulator, poller: Poller) -> None:
        await asyncio.sleep(8.0)
        simulator.afflict("meter-2", ["crc rate=0.5"])
        simulator.afflict("meter-3", ["silence rate=0.35"])
        while True:
            await asyncio.sleep(0.37)
            await poller.talks.ask(
                poller.units[0].driver.poll(poller.units[0].device.points[:2], 0.0), Partner("command")
            )

    bus = bus_of(path, 19200, (1, 2, 3), None)
    _, seen = await run(bus, 25.0, script)
    return draw_frames(bus, most_telling(seen[200:]))


def most_telling(seen: Sequence[Traced]) -> Sequence[Traced]:
    """The stretch of 14 exchanges with a command, a broken frame and a silence that has most of all three."""

    def kinds(part: Sequence[Traced]) -> tuple[int, int]:
        told = {
            ("command" if t.partner == "command" else "") or ("broken" if t.error and t.heard else "") or t.error
            for t in part
        }
        return len(told), -sum(bool(t.error) for t in part)

    return max((seen[at : at + 14] for at in range(len(seen) - 14)), key=kinds)


def draw_frames(bus: Bus, seen: Sequence[Traced]) -> str:
    assert isinstance(bus.port, SerialPort)
    begin = seen[0].at
    scale = (WIDTH - LEFT - 30) / (seen[-1].at + seen[-1].took - begin)
    lanes = {name: 90 + 70 * row for row, name in enumerate(("meter-1", "meter-2", "meter-3", "command"))}
    character = bus.port.bits / bus.port.baud
    parts = [text(LEFT, 40, "One bus, one owner: what is on the line, 19200 baud", 24, bold=True)]
    for name, y in lanes.items():
        parts += [text(LEFT - 12, y + 26, name, 18, anchor="end"), rect(LEFT, y + 38, WIDTH - LEFT - 30, 1, GREY)]
    for one, following in zip(seen, [*seen[1:], None], strict=True):
        y, end = lanes[one.partner], one.at + one.took
        # The watcher's times begin with the silence before the request; the frame itself is known by its length.
        size = len(one.reply) or len(one.heard)
        sent = end - size * character if size else end
        asked = len(one.request) * character
        first = max(one.at, sent - asked - 0.004) if size else one.at + silence(bus.port)
        x = lambda moment: LEFT + (moment - begin) * scale
        parts.append(rect(x(first), y, asked * scale, 38, BLUE))
        if size:
            parts.append(rect(x(sent), y, size * character * scale, 38, RED if one.error else GREEN))
        else:
            parts.append(rect(x(first + asked), y, (end - first - asked) * scale, 38, ORANGE, dash=True))
            if following is not None:
                gap = 0.3 * scale
                parts.append(rect(x(end), y, min(gap, WIDTH - 30 - x(end)), 38, GREY))
                parts.append(text(x(end) + 8, y + 25, "quiet gap", 15))
    legend = [("request", BLUE), ("reply", GREEN), ("broken reply: asked again at once", RED), ("no answer", ORANGE)]
    x0 = float(LEFT)
    for word, colour in legend:
        parts += [rect(x0, 385, 26, 18, colour), text(x0 + 34, 400, word, 17)]
        x0 += 60 + 10 * len(word)
    ms = (seen[-1].at + seen[-1].took - begin) * 1000
    parts.append(text(WIDTH - 30, 400, f"{ms:.0f} ms in all", 17, anchor="end"))
    return page(420, parts)


async def recovery(path: str) -> str:
    """A minute in which three of ten devices fall silent, and come back."""

    async def script(simulator: Simulator, _poller: Poller) -> None:
        await asyncio.sleep(10.0)
        for unit in (3, 6, 9):
            simulator.afflict(f"meter-{unit}", ["silence"])
        await asyncio.sleep(30.0)
        for unit in (3, 6, 9):
            simulator.afflict(f"meter-{unit}", [])

    began, seen = await run(bus_of(path, 19200, TEN, None), 60.0, script)
    return draw_recovery(began, seen)


def draw_recovery(began: float, seen: Sequence[Traced]) -> str:
    silent = {"meter-3", "meter-6", "meter-9"}
    polls = [[0, 0.0] for _ in range(60)]
    for one in seen:
        second = min(int(one.at - began), 59)
        polls[second][0] += one.partner not in silent and not one.error
        polls[second][1] += one.took if one.error else 0.0
    before = sum(count for count, _ in polls[3:10]) / 7
    step, base, height = (WIDTH - LEFT - 30) / 60, 330, 220 / 1.6
    parts = [text(LEFT, 40, "Three of ten devices fall silent: what the other seven get", 24, bold=True)]
    for share in (0.5, 1.0, 1.43):
        y = base - share * height
        parts += [rect(LEFT, y, WIDTH - LEFT - 30, 1, GREY), text(LEFT - 12, y + 6, f"{share:g} x", 17, anchor="end")]
    for second, (count, lost) in enumerate(polls):
        tall = count / before * height
        parts.append(rect(LEFT + second * step, base - tall, step - 2, tall, BLUE))
        if lost:
            parts.append(rect(LEFT + second * step, base + 12, step - 2, min(lost, 1.0) * 60, ORANGE))
    parts += [
        text(LEFT - 12, base + 30, "waiting for", 15, anchor="end"),
        text(LEFT - 12, base + 48, "the silent", 15, anchor="end"),
        text(LEFT + 10 * step, 80, "3 fall silent", 18),
        rect(LEFT + 10 * step, 86, 2, base - 86, RED),
        text(LEFT + 40 * step, 80, "they answer again", 18),
        rect(LEFT + 40 * step, 86, 2, base - 86, GREEN),
        text(LEFT, base + 105, "0 s", 16),
        text(WIDTH - 30, base + 105, "60 s", 16, anchor="end"),
        text(
            WIDTH / 2,
            base + 105,
            "each blue bar: readings per second of the living devices, against before",
            16,
            anchor="middle",
        ),
    ]
    return page(base + 125, parts)


def rect(x: float, y: float, width: float, height: float, colour: str, *, dash: bool = False) -> str:
    line = f' stroke="{INK}" stroke-dasharray="4 3" fill-opacity="0.45"' if dash else ""
    size = f'width="{max(width, 0.5):.1f}" height="{max(height, 0.5):.1f}"'
    return f'<rect x="{x:.1f}" y="{y:.1f}" {size} fill="{colour}"{line}/>'


def text(x: float, y: float, words: str, size: int, *, bold: bool = False, anchor: str = "start") -> str:
    look = f'font-size="{size}" fill="{INK}" text-anchor="{anchor}"' + (' font-weight="bold"' if bold else "")
    return f'<text x="{x:.1f}" y="{y:.1f}" {look}>{escape(words)}</text>'


def page(height: float, parts: Sequence[str]) -> str:
    box = f'viewBox="0 0 {WIDTH} {height:.0f}" font-family="DejaVu Sans, Arial, sans-serif"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box}>'
    return "\n".join([head, rect(0, 0, WIDTH, height, "#FFFFFF"), *parts, "</svg>\n"])


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        (HERE / "bus-frames.svg").write_text(await frames(f"{folder}/line-1"), encoding="utf-8")
        (HERE / "bus-recovery.svg").write_text(await recovery(f"{folder}/line-2"), encoding="utf-8")


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=event_loop) as runner:
        runner.run(main())
