"""Mounts file systems, where that is allowed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from catalogue import NotHere

_ENVIRONMENT = os.environ | {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}


def tool(*command: str | Path) -> None:
    """Run one of the system's tools. NotHere when it may not do its work."""
    done = subprocess.run([str(part) for part in command], capture_output=True, check=False, env=_ENVIRONMENT)
    if done.returncode:
        raise NotHere(f"{command[0]}: {done.stderr.decode(errors='replace').strip() or done.returncode}")


def look_for_tools(*names: str) -> None:
    """NotHere when one is missing, or we may not mount."""
    if os.geteuid() != 0:
        raise NotHere("mounting a file system needs root")
    for name in names:
        if shutil.which(name, path=_ENVIRONMENT["PATH"]) is None:
            raise NotHere(f"{name} is not installed")
