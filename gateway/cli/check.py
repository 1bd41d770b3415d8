"""`gateway check`: every problem of a site file, with its line and what to do."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from gateway.cli import add_config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.errors import Problem
    from gateway.model import Site

EXAMPLE = "gateway check --config gateway.toml --portable"


def arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--portable", action="store_true", help="look at the file only, not at the ports and files of this machine"
    )


def main(args: argparse.Namespace) -> int:
    from gateway.settings import check

    site, problems = check(args.config)
    if args.portable:
        problems = [problem for problem in problems if not problem.machine]
    remarks = _remarks(site, portable=args.portable) if site else []
    if args.json:
        print(json.dumps(_object(site, problems, remarks), ensure_ascii=False))
    elif problems or site is None:
        _complain(problems)
    else:
        _summarise(args.config, site, remarks)
    return 2 if problems else 0


def _remarks(site: Site, *, portable: bool) -> list[str]:
    """What is allowed, and yet worth a remark."""
    from gateway.clock import Clock
    from gateway.settings import certificate_notes, notes

    return notes(site) + ([] if portable else certificate_notes(site, Clock().wall()))


def _object(site: Site | None, problems: Sequence[Problem], remarks: Sequence[str]) -> dict[str, Any]:
    from gateway.settings import loss_window

    body: dict[str, Any] = {"ok": not problems, "problems": [problem._asdict() for problem in problems], "site": None}
    if site is not None:
        body["site"] = {
            "gateway": site.gateway,
            "site": site.site,
            "sha256": site.sha256,
            "buses": len(site.buses),
            "devices": sum(len(bus.devices) for bus in site.buses),
            "points": sum(len(device.points) for bus in site.buses for device in bus.devices),
            "loss_window_s": loss_window(site),
            "warnings": list(remarks),
        }
    return body


def _complain(problems: Sequence[Problem]) -> None:
    """One problem a paragraph on stderr: where, what, what to do; at the end how many."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    for problem in problems:
        place = f"{problem.file}:{problem.line}" if problem.line else problem.file
        path = f"{problem.path}: " if problem.path else ""
        text = Text.assemble((f"{place}: ", "bold"), (path, "cyan"), problem.text)
        if problem.advice:
            text.append(f"\n    {problem.advice}", "green")
        console.print(text)
    console.print(Text(_count(len(problems), "problem"), "bold red"))
    if all(problem.machine for problem in problems):
        console.print("The file itself is right: only this machine does not fit it (--portable checks the file alone).")


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _summarise(config: object, site: Site, remarks: Sequence[str]) -> None:
    from rich.console import Console
    from rich.text import Text

    from gateway.settings import loss_sentence

    console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    console.print(Text.assemble((f"{config} is in order", "bold green"), f": gateway {site.gateway}, {site.site}"))
    for bus in site.buses:
        points = sum(len(device.points) for device in bus.devices)
        console.print(Text(f"  bus {bus.name}: {_count(len(bus.devices), 'device')}, {_count(points, 'point')}"))
    console.print(Text(f"  {loss_sentence(site)}"))
    for note in remarks:
        console.print(Text.assemble(("  note: ", "yellow"), note))
