"""The demo as a user runs it: a process, a real agent in another, judged by its last line and its exit code."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "gateway", "demo", "--config", str(ROOT / "config" / "gateway.toml")]


def demo(*args: str, **env: str) -> tuple[subprocess.CompletedProcess[str], dict]:
    shown = subprocess.run(
        [*COMMAND, *args, "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, **env},
    )
    return shown, json.loads(shown.stdout.splitlines()[-1])


def test_an_outage_in_the_middle_loses_nothing():
    shown, verdict = demo("--seconds", "12", "--outage", "5")
    assert shown.returncode == 0, shown.stderr
    assert verdict["readings_stored"] == verdict["readings_received"] > 100
    assert (verdict["missing"], verdict["wrong_values"]) == (0, 0)
    assert verdict["values_checked"] > 100
    assert verdict["outage_s"] >= 5
    assert verdict["drain_s"] > 0
    assert "broker AWAY" in shown.stderr


def test_make_demo_needs_no_more_words():
    command = ["make", "--no-print-directory", "demo", "ARGS=--seconds 5 --json"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout.splitlines()[-1])["missing"] == 0


def test_a_swapped_word_order_in_the_driver_makes_the_demo_fail(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "from drivers.modbus.register import ORDERS\n"
        'ORDERS[""], ORDERS["ABCD"], ORDERS["CDAB"] = ORDERS["CDAB"], ORDERS["CDAB"], ORDERS["ABCD"]\n'
    )
    shown, verdict = demo("--seconds", "6", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert shown.returncode == 1
    assert verdict["wrong_values"] > 10
    assert verdict["examples"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_cleanly_when_the_user_has_seen_enough(number):
    process = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = process.stdout.readline()
    process.send_signal(number)
    rest, complaints = process.communicate(timeout=60)
    assert "received" in first
    assert "Nothing was lost, nothing was wrong." in rest
    assert (process.returncode, complaints) == (0, "")


def test_on_a_terminal_it_is_a_live_view_and_draws_a_picture(tmp_path):
    picture = tmp_path / "demo.svg"
    screen, terminal = os.openpty()
    process = subprocess.Popen(
        [*COMMAND, "--seconds", "4", "--picture", str(picture)],
        stdout=terminal,
        stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
    )
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the demo has ended and its side of the terminal is closed
        while data := os.read(screen, 65536):
            shown += data
    os.close(screen)
    _, complaints = process.communicate(timeout=60)
    assert (process.returncode, complaints) == (0, b"")
    text = shown.decode()
    assert "what the IOC receives" in text
    assert all(name in text for name in ("meter-1", "light-panel", "pump-plc", "voltage_l1", "good", "load"))
    drawn = picture.read_text(encoding="utf-8")
    assert drawn.startswith("<svg")
    assert "light-panel" in drawn
    assert "@font-face" not in drawn


def test_wrong_options_are_one_sentence():
    shown = subprocess.run(
        [*COMMAND, "--outage", "5", "--broker", "mqtt://127.0.0.1:1"], capture_output=True, text=True, check=False
    )
    assert shown.returncode == 1
    assert shown.stderr.startswith("gateway: --outage needs the built-in broker")
    assert "Traceback" not in shown.stderr


def test_no_child_survives_a_killed_demo():
    process = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split()
    assert len(children) == 2  # broker and agent
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 20
    for child in children:
        while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not Path(f"/proc/{child}").exists()
