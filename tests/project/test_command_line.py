"""Every verb, from outside: help, wrong usage, wrong files, machines' output."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from drivers.base import Sample
from gateway import __version__
from gateway.__main__ import VERBS
from gateway.clock import Clock
from gateway.model import Readings, StoreSettings
from gateway.store import Store
from gateway.store.capacity import batch_bytes

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config" / "gateway.toml"


def gateway(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", *args],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **env},
    )


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_an_example(verb):
    shown = gateway(verb, "--help")
    assert shown.returncode == 0
    assert f"example: gateway {verb}" in " ".join(shown.stdout.split())


def test_help_lists_every_verb():
    shown = gateway("--help").stdout
    assert all(verb in shown for verb in VERBS)


@pytest.mark.parametrize("args", [(), ("fly",), ("run", "--fly"), ("demo", "--seconds", "-1")])
def test_wrong_usage_is_exit_code_2(args):
    shown = gateway(*args)
    assert shown.returncode == 2
    assert "usage: gateway" in shown.stderr
    assert "Traceback" not in shown.stderr


@pytest.mark.parametrize("verb", ["run", "plan", "demo", "check"])
def test_a_missing_site_file_is_one_sentence_and_exit_code_2(verb, tmp_path):
    shown = gateway(verb, "--config", str(tmp_path / "none.toml"))
    assert shown.returncode == 2
    assert "there is no such file" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_run_refuses_a_wrong_site_file_with_the_words_of_check(tmp_path):
    wrong = tmp_path / "gateway.toml"
    wrong.write_text(EXAMPLE.read_text(encoding="utf-8").replace("address = 2", "address = 1\nspeed = 9"))
    checked = gateway("check", "--portable", "--config", str(wrong))
    refused = gateway("run", "--config", str(wrong))
    assert checked.returncode == refused.returncode == 2
    problems = [line.strip() for line in checked.stderr.splitlines() if str(wrong) in line]
    assert len(problems) == 2
    assert [line.strip() for line in refused.stderr.splitlines() if str(wrong) in line] == problems


def test_the_environment_names_the_site_file():
    assert gateway("check", "--portable", GATEWAY_CONFIG=str(EXAMPLE)).returncode == 0


def test_version():
    assert gateway("version").stdout.startswith(f"gateway {__version__} ")
    assert json.loads(gateway("version", "--json").stdout)["version"] == __version__


def test_plan_names_every_request_and_the_load_of_each_bus():
    plan = json.loads(gateway("plan", "--config", str(EXAMPLE), "--json").stdout)
    line, plc = plan["buses"]
    assert (line["name"], plc["name"]) == ("rs485-1", "pump-plc")
    assert 0 < line["utilisation"] < 1
    asked = [request["asks"] for request in line["requests"] if request["device"] == "meter-3"]
    assert asked == ["unit 3: FC4 input 0..9 (10 registers)"]
    points = sum(len(request["points"]) for bus in plan["buses"] for request in bus["requests"])
    assert (
        points
        == json.loads(gateway("check", "--portable", "--json", "--config", str(EXAMPLE)).stdout)["site"]["points"]
    )


@pytest.mark.parametrize(("devices", "points"), [(1, 1), (1, 4), (2, 5), (4, 5), (12, 5), (20, 14)])
async def test_the_days_that_plan_promises_are_what_the_store_really_holds(devices, points, tmp_path):
    dice = random.Random(5)
    store = Store(StoreSettings(path=str(tmp_path), linger=60.0, commit_every=60.0), Clock("system"))
    await store.open()
    for _ in range(100):
        for number in range(devices):
            samples = [Sample(f"voltage_l{n}", round(dice.uniform(100, 9000), 1)) for n in range(points)]
            await store.append(Readings(f"meter-{number}", "a1b2c3d4", 1000, samples))
        store.flush()
    await store.commit()
    used = store.stats()["used_bytes"] / 100
    await store.close()
    assert 0.5 < used / batch_bytes(devices * points) < 1.15


def test_plan_shows_people_what_it_tells_machines():
    shown = gateway("plan", "--config", str(EXAMPLE)).stdout
    assert "rs485-1" in shown
    assert "FC4 input" in shown
    assert "days" in shown


def test_plan_warns_of_a_bus_that_cannot_keep_up(tmp_path):
    slow = tmp_path / "gateway.toml"
    text = (
        EXAMPLE.read_text(encoding="utf-8").replace("baud = 9600", "baud = 300").replace('every = "5s"', 'every = "1s"')
    )
    slow.write_text(text)
    shown = gateway("plan", "--config", str(slow)).stdout
    assert "readings will be skipped" in " ".join(shown.split())


def test_a_reader_that_leaves_early_is_no_error_message():
    command = f"{sys.executable} -m gateway plan --config {EXAMPLE} | head -1"
    shown = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=60)
    assert shown.stderr == ""
