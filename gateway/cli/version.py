"""`gateway version`."""

from __future__ import annotations

import argparse
import json
import platform

from gateway import __version__

EXAMPLE = "gateway version --json"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def main(args: argparse.Namespace) -> int:
    if args.json:
        print(json.dumps({"version": __version__, "python": platform.python_version(), "machine": platform.machine()}))
    else:
        print(f"gateway {__version__} (Python {platform.python_version()}, {platform.machine()})")
    return 0
