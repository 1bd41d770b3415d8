"""Writes the two lock files: every requirement with version and hashes, and nothing about where it was found."""

from __future__ import annotations

import subprocess
import sys

LOCKS = {"requirements.lock": ["agent", "ioc", "demo"], "requirements-dev.lock": ["agent", "ioc", "demo", "dev"]}

for name, extras in LOCKS.items():
    command = [sys.executable, "-m", "piptools", "compile", "--quiet", "--generate-hashes", "--allow-unsafe"]
    command += ["--strip-extras", "--no-header", "--no-emit-index-url", "--no-emit-find-links"]
    command += ["--no-emit-trusted-host", "--no-emit-options", "--output-file", name, "pyproject.toml"]
    subprocess.run([*command, *(f"--extra={extra}" for extra in extras)], check=True)
    print("wrote", name)
