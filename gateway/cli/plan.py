"""`gateway plan`: what the agent will ask, when, and how busy that keeps each bus."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from drivers import create
from drivers.base import Point
from gateway.cli import add_config
from gateway.field.cost import planned
from gateway.field.timeline import Timeline, timeline
from gateway.model import Bus, Device, Site
from gateway.store.capacity import hours, stored_per_second

EXAMPLE = "gateway plan --config config/gateway.toml --picture plan.svg"
SHOWN, LEAST = 60.0, 10.0
"""Seconds of a timeline that are shown: ten of the shortest period, within these."""
STEPS = (1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0)
"""Periods that are proposed instead of too short ones, in seconds."""
ENOUGH = 0.9
"""Load of a bus under which it keeps up, with some room for what fails."""


def arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--picture", type=Path, metavar="FILE.svg", help="draw the timeline, for a screen or paper")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def main(args: argparse.Namespace) -> int:
    from gateway.settings import load

    plan = plan_of(load(args.config))
    if args.picture:
        from gateway.cli.plan_picture import save

        save(plan, args.picture)
    if args.json:
        print(json.dumps(plan, ensure_ascii=False))
    else:
        from gateway.cli.plan_view import show

        show(plan)
    return 0


def plan_of(site: Site) -> dict[str, Any]:
    """Return every request with its cost in seconds and the share of time that each bus is in use."""
    buses = [plan_bus(bus) for bus in site.buses]
    rate = sum(bus["readings_per_s"] for bus in buses)
    stored = stored_per_second(site)
    return {
        "gateway": site.gateway,
        "site": site.site,
        "readings_per_s": rate,
        "stored_per_s": stored,
        "hours_offline": hours(site.store, stored),
        "max_size": site.store.max_size,
        "buses": buses,
    }


def plan_bus(bus: Bus) -> dict[str, Any]:
    requests = [request for device in bus.devices for request in plan_device(bus, device)]
    timed = [request for request in requests if request["every_s"] is not None]
    return {
        "name": bus.name,
        "utilisation": sum(request["seconds"] / request["every_s"] for request in timed),
        "best_effort": len(timed) < len(requests),
        "readings_per_s": sum(len(request["points"]) / request["every_s"] for request in timed),
        "requests": requests,
        "slower": slower(timed),
        "timeline": plan_timeline(bus, timeline(bus)),
    }


def plan_device(bus: Bus, device: Device) -> list[dict[str, Any]]:
    driver = create(device.driver, **device.options)
    periods: dict[float | None, list[Point]] = {}
    for point in device.points if device.polled else ():
        periods.setdefault(point.every, []).append(point)
    return [
        {
            "device": device.name,
            "every_s": every,
            "asks": request.step.label,
            "points": [point.name for point in request.points],
            "bytes": len(request.step.request) + request.step.reply_size,
            "seconds": request.seconds,
        }
        for every, points in periods.items()
        for request in planned(driver, points, bus.port)
    ]


def plan_timeline(bus: Bus, whole: Timeline) -> dict[str, Any]:
    """Return the beginning of a timeline, and what all of it says: load of timed and asap points, readings missed."""
    names = [device.name for device in bus.devices]
    periods = [mark.every for mark in whole.marks if mark.every is not None]
    shown = min(max(10 * min(periods, default=0.0), LEAST), SHOWN, whole.seconds)
    return {
        "seconds": shown,
        "load": whole.share(asap=False),
        "asap": whole.share(asap=True),
        "missed": whole.missed,
        "over_s": whole.seconds,
        "devices": names,
        "phases": [
            {"device": names[device], "every_s": every, "after_s": round(after, 3)}
            for (device, every), after in whole.phases.items()
        ],
        "requests": [
            {
                "device": names[mark.device],
                "at": round(mark.at, 4),
                "seconds": round(mark.seconds, 4),
                "every_s": mark.every,
                "points": mark.points,
            }
            for mark in whole.marks
            if mark.at < shown
        ],
    }


def slower(timed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return which points to ask less often until the bus keeps up, the most costly first; [] when it does."""
    groups: dict[tuple[str, float], dict[str, Any]] = {}
    for request in timed:
        key = request["device"], request["every_s"]
        group = groups.setdefault(key, {"device": key[0], "every_s": key[1], "points": [], "seconds": 0.0})
        group["points"] += request["points"]
        group["seconds"] += request["seconds"]
    proposed = {key: every for key in groups for every in key[1:]}
    load = sum(group["seconds"] / group["every_s"] for group in groups.values())
    if load <= 1:
        return []
    while load > ENOUGH:
        key = max(groups, key=lambda one: groups[one]["seconds"] / proposed[one])
        longer = next((step for step in STEPS if step > proposed[key]), 2 * proposed[key])
        load -= groups[key]["seconds"] * (1 / proposed[key] - 1 / longer)
        proposed[key] = longer
    changed = [key for key in groups if proposed[key] != key[1]]
    changed.sort(key=lambda key: -groups[key]["seconds"] / key[1])
    return [{**groups[key], "load": groups[key]["seconds"] / key[1], "proposed_s": proposed[key]} for key in changed]
