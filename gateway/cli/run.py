"""`gateway run`: the agent. Loads nothing that only a person at a terminal needs, nor what checks the site file."""

from __future__ import annotations

import argparse
import pickle
import subprocess
import sys

from gateway import log
from gateway.cli import add_config
from gateway.errors import ConfigError, GatewayError
from gateway.model import Site

EXAMPLE = "gateway run --config /etc/gateway/gateway.toml"


def arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)


def main(args: argparse.Namespace) -> int:
    with subprocess.Popen(
        [sys.executable, "-m", "gateway.settings", str(args.config)], stdout=subprocess.PIPE
    ) as loading:
        from gateway.app import run  # imported while the child reads the site file

        site = site_of(loading)
    log.set_up()
    run(site)
    return 0


def site_of(loading: subprocess.Popen[bytes]) -> Site:
    """Take over what `python -m gateway.settings` has found. ConfigError with every problem."""
    said, _ = loading.communicate()
    if loading.returncode:
        raise GatewayError(f"The site file could not be checked: the check ended with code {loading.returncode}.")
    result = pickle.loads(said)  # noqa: S301  # our own child wrote it
    if not isinstance(result, Site):
        raise ConfigError(result)
    return result
