from __future__ import annotations

import subprocess

import pytest


@pytest.fixture
async def line(tmp_path, until):
    """A serial line: two pseudo-terminals, joined by socat."""
    ends = (tmp_path / "a", tmp_path / "b")
    command = ["socat", *(f"pty,raw,echo=0,link={end}" for end in ends)]
    socat = subprocess.Popen(command)
    await until(lambda: all(end.exists() for end in ends), "the serial line")
    yield ends
    socat.terminate()
    socat.wait()
