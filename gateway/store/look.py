"""What waits in a store, seen from another process: read-only, and without its lock."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from gateway.store import opening


def waiting(folder: Path) -> int:
    """Return how many readings on disk are not settled; 0 where there is no store, or it cannot be read now."""
    try:
        with closing(sqlite3.connect(f"file:{folder / 'gateway.db'}?mode=ro", uri=True, timeout=0.1)) as database:
            (readings,) = database.execute("SELECT coalesce(sum(n), 0) FROM batch WHERE NOT kept").fetchone()
    except opening.FAILURES:
        return 0
    return int(readings)
