"""`gateway run`: the agent. Loads nothing that only a person at a terminal needs."""

from __future__ import annotations

import argparse

from gateway import log
from gateway.cli import add_config

EXAMPLE = "gateway run --config /etc/gateway/gateway.toml"


def arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)


def main(args: argparse.Namespace) -> int:
    from gateway.app import run
    from gateway.settings import load

    log.set_up()
    run(load(args.config))
    return 0
