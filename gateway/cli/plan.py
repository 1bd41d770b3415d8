"""`gateway plan`: what the agent will ask, and how busy that keeps each bus."""

from __future__ import annotations

import argparse
import json
from typing import Any

from drivers import create
from drivers.base import Exchange, Point
from gateway.cli import add_config
from gateway.field.cost import exchange_seconds
from gateway.model import Bus, Device, Site

EXAMPLE = "gateway plan --config config/gateway.toml"
SHOWN = 4


def arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def main(args: argparse.Namespace) -> int:
    from gateway.settings import load

    plan = plan_of(load(args.config))
    if args.json:
        print(json.dumps(plan, ensure_ascii=False))
    else:
        show(plan)
    return 0


def plan_of(site: Site) -> dict[str, Any]:
    """Return every request with its cost in seconds and the share of time that each bus is in use."""
    buses = [plan_bus(bus) for bus in site.buses]
    rate = sum(bus["readings_per_s"] for bus in buses)
    hours = hours_offline(site, rate) if rate else None
    return {"gateway": site.gateway, "readings_per_s": rate, "hours_offline": hours, "buses": buses}


def hours_offline(site: Site, rate: float) -> float:
    """Return how long the store lasts without the IOC, at so many readings per second."""
    batch = max(1.0, rate * site.store.linger)
    return site.store.max_size / (batch_bytes(batch) * rate / batch) / 3600


def batch_bytes(readings: float) -> float:
    """Return what a batch takes on disk, at most: short ones are mostly envelope and row, long ones compress."""
    return min(200 + 15 * readings, 350 + 4 * readings)


def plan_bus(bus: Bus) -> dict[str, Any]:
    requests = [request for device in bus.devices for request in plan_device(bus, device)]
    timed = [request for request in requests if request["every_s"] is not None]
    return {
        "name": bus.name,
        "utilisation": sum(request["seconds"] / request["every_s"] for request in timed),
        "best_effort": len(timed) < len(requests),
        "readings_per_s": sum(len(request["points"]) / request["every_s"] for request in timed),
        "requests": requests,
    }


def plan_device(bus: Bus, device: Device) -> list[dict[str, Any]]:
    driver = create(device.driver, **device.options)
    periods: dict[float | None, list[Point]] = {}
    for point in device.points:
        periods.setdefault(point.every, []).append(point)
    requests = []
    for every, points in periods.items():
        for group in driver.plan(points):
            step = next(driver.poll(group, 0.0))
            if not isinstance(step, Exchange):
                continue
            requests.append(
                {
                    "device": device.name,
                    "every_s": every,
                    "asks": step.label,
                    "points": [point.name for point in group],
                    "bytes": len(step.request) + step.reply_size,
                    "seconds": exchange_seconds(step, bus.port),
                }
            )
    return requests


def show(plan: dict[str, Any]) -> None:
    """Draw one table per bus, with the load as a bar."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for bus in plan["buses"]:
        table = Table(title=f"bus {bus['name']}", title_justify="left", title_style="bold")
        for name in ("device", "every", "request", "points", "bytes", "ms"):
            table.add_column(name, justify="right" if name in ("bytes", "ms") else "left", overflow="fold")
        for request in bus["requests"]:
            every = "asap" if request["every_s"] is None else f"{request['every_s']:g} s"
            names = ", ".join(request["points"][:SHOWN])
            names += f" and {len(request['points']) - SHOWN} more" if len(request["points"]) > SHOWN else ""
            cost = (str(request["bytes"]), f"{request['seconds'] * 1000:.1f}")
            table.add_row(request["device"], every, request["asks"], names, *cost)
        console.print(table)
        load = bus["utilisation"]
        filled = round(min(load, 1.0) * 40)
        rest = ", and asap points use the rest" if bus["best_effort"] else ""
        console.print(f"load {'█' * filled}{'░' * (40 - filled)} {load:.1%} of the time{rest}\n", highlight=False)
        if load > 1:
            console.print(
                f"[bold red]{bus['name']} would need {load:.0%} of its time:[/] readings will be skipped. "
                "Ask less often, raise the baud rate, or move devices to another bus."
            )
    console.print(f"{plan['readings_per_s']:.1f} readings per second (without asap points)")
    if plan["hours_offline"]:
        console.print(f"the store holds about {plan['hours_offline'] / 24:.1f} days of them while the broker is away")
