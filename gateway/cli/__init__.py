"""The verbs of `gateway`, one module each."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

DEFAULT_CONFIG = "/etc/gateway/gateway.toml"


def add_config(parser: argparse.ArgumentParser) -> None:
    """Give a verb its --config option."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        default=Path(os.environ.get("GATEWAY_CONFIG", DEFAULT_CONFIG)),
        help=f"the site file (default: $GATEWAY_CONFIG or {DEFAULT_CONFIG})",
    )
