"""`gateway plan --picture`: the timeline as an SVG drawing. Big type, black on white, colours everybody can tell."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from gateway.cli.plan_view import period
from gateway.errors import GatewayError

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
"""Okabe and Ito, Color Universal Design (2008): told apart with every kind of colour vision."""
ASAP, INK, PALE, ALARM = "#999999", "#000000", "#D9D9D9", "#B00020"
WIDTH, MARGIN, ROW, TEXT = 1600, 40, 46, 26
LETTER = 0.6 * TEXT
"""Width of a letter, near enough to leave room for names."""
LONGEST_NAME = 24
THINNEST, GAP = 4.0, 1.5


def save(plan: dict[str, Any], path: Path) -> None:
    """Write the drawing. GatewayError when the file cannot be written."""
    try:
        path.write_text(picture(plan), encoding="utf-8")
    except OSError as error:
        raise GatewayError(
            f"The picture {path} cannot be written: {error.strerror}. Choose a file in a directory that you may write, "
            "for example /tmp/plan.svg."
        ) from None


def picture(plan: dict[str, Any]) -> str:
    """Return the SVG text of a plan. The same plan gives the same text."""
    parts: list[str] = []
    y = 130.0
    title = " · ".join(filter(None, (plan["gateway"], plan["site"])))
    parts.append(_text(MARGIN, 56, title, 36, weight="bold"))
    parts.append(_text(MARGIN, 98, "each bar is one request, as wide as it keeps the line busy", 24))
    longest = max((len(name) for bus in plan["buses"] for name in bus["timeline"]["devices"]), default=0)
    left = MARGIN + LETTER * min(longest, LONGEST_NAME) + 20
    for bus in plan["buses"]:
        drawn, height = _bus(bus, y, left)
        parts += drawn
        y += height
    height = round(y + MARGIN / 2)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="DejaVu Sans, Noto Sans, Arial, sans-serif">'
    )
    return "\n".join([head, f'<rect width="{WIDTH}" height="{height}" fill="#FFFFFF"/>', *parts, "</svg>\n"])


def _bus(bus: dict[str, Any], top: float, left: float) -> tuple[list[str], float]:
    """The drawing of a bus from `top` on, its time from `left` on, and how high it is."""
    line = bus["timeline"]
    colours = colours_of(line)
    parts = [*_load(bus, top)]
    rows = top + 110
    bottom = rows + ROW * len(line["devices"])
    scale = (WIDTH - MARGIN - left) / line["seconds"]
    parts += _grid(line["seconds"], left, scale, rows, bottom)
    places = {}
    for index, name in enumerate(line["devices"]):
        places[name] = rows + ROW * index
        short = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
        parts.append(_text(left - 16, places[name] + 33, short, TEXT, anchor="end"))
    for request in line["requests"]:
        end = min(request["at"] + request["seconds"], line["seconds"])
        width = max(THINNEST, (end - request["at"]) * scale - GAP)
        parts.append(
            f'<rect x="{left + request["at"] * scale:.1f}" y="{places[request["device"]] + 6:.0f}" width="{width:.1f}" '
            f'height="{ROW - 12}" fill="{colours[request["every_s"]]}"/>'
        )
    parts += _legend(colours, left, bottom + 80)
    return parts, bottom + 130 - top


def _load(bus: dict[str, Any], top: float) -> Iterator[str]:
    """The name of the bus, and a bar of how busy it is."""
    load = bus["utilisation"]
    asap = ", asap points use the rest" if bus["best_effort"] else ""
    over = load > 1
    words = f"{load:.0%} of its time{asap}" if not over else f"needs {load:.0%} of its time: readings are skipped"
    yield _text(MARGIN, top + 40, bus["name"], 32, weight="bold")
    yield _text(WIDTH - MARGIN, top + 40, words, 28, anchor="end", fill=ALARM if over else INK, weight="bold")
    whole = WIDTH - 2 * MARGIN
    yield f'<rect x="{MARGIN}" y="{top + 56:.0f}" width="{whole}" height="24" fill="{PALE}"/>'
    used = whole * min(load, 1.0)
    yield f'<rect x="{MARGIN}" y="{top + 56:.0f}" width="{used:.1f}" height="24" fill="{ALARM if over else INK}"/>'


def _grid(seconds: float, left: float, scale: float, top: float, bottom: float) -> Iterator[str]:
    step = next((step for step in (1, 2, 5, 10) if seconds / step <= 12), 30)
    for second in range(0, int(seconds) + 1, step):
        x = left + second * scale
        yield f'<line x1="{x:.1f}" y1="{top:.0f}" x2="{x:.1f}" y2="{bottom:.0f}" stroke="{PALE}" stroke-width="2"/>'
        yield _text(x, bottom + 34, f"{second} s", 24, anchor="middle")
    for y in (top, bottom):
        yield f'<line x1="{left:.1f}" y1="{y:.0f}" x2="{WIDTH - MARGIN}" y2="{y:.0f}" stroke="{INK}" stroke-width="2"/>'


def _legend(colours: dict[float | None, str], left: float, y: float) -> Iterator[str]:
    x = left
    for every, colour in colours.items():
        words = "asap" if every is None else f"every {period(every)}"
        yield f'<rect x="{x:.1f}" y="{y - 22:.0f}" width="26" height="26" fill="{colour}"/>'
        yield _text(x + 36, y, words, 24)
        x += 36 + LETTER * len(words) + 30


def colours_of(line: dict[str, Any]) -> dict[float | None, str]:
    """Give every period its colour, the shortest first; asap is grey."""
    timed = sorted({request["every_s"] for request in line["requests"] if request["every_s"] is not None})
    colours: dict[float | None, str] = {every: PALETTE[index % len(PALETTE)] for index, every in enumerate(timed)}
    if any(request["every_s"] is None for request in line["requests"]):
        colours[None] = ASAP
    return colours


def _text(
    x: float, y: float, words: str, size: int, *, anchor: str = "start", weight: str = "normal", fill: str = INK
) -> str:
    style = f'font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" fill="{fill}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>'
