"""`python -m gateway.settings FILE`: loads a site file, and hands the Site to the agent (pickle on stdout).

The agent runs this as a child. What it takes to check a site file is a third of the agent's memory, and is needed for
a moment only: a process that ends gives all of it back.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

from gateway.errors import ConfigError
from gateway.settings import load


def main(path: str) -> None:
    """Write the Site, or the tuple of Problems."""
    try:
        result: object = load(Path(path))
    except ConfigError as error:
        result = error.problems
    sys.stdout.buffer.write(pickle.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1])
