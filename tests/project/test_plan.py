"""`gateway plan`: its picture, its timeline and what it proposes for a bus that cannot keep up."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from gateway.cli.plan import ENOUGH, plan_of, slower
from gateway.cli.plan_picture import PALETTE, picture
from gateway.cli.plan_view import hours_text
from gateway.model import StoreSettings
from gateway.settings import load
from gateway.store.capacity import hours

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config" / "gateway.toml"
SVG = "{http://www.w3.org/2000/svg}"


def gateway(*args):
    command = [sys.executable, "-m", "gateway", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def overfull(tmp_path):
    path = tmp_path / "gateway.toml"
    text = EXAMPLE.read_text(encoding="utf-8").replace("baud = 9600", "baud = 1200").replace('"5s"', '"1s"')
    path.write_text(text.replace('"10s"', '"asap"'), encoding="utf-8")
    return path


def test_the_picture_in_the_docs_is_that_of_the_example():
    drawn = (ROOT / "docs" / "plan.svg").read_text(encoding="utf-8")
    assert drawn == picture(plan_of(load(EXAMPLE))), (
        f"regenerate it: gateway plan --config {EXAMPLE} --picture docs/plan.svg"
    )


def test_the_hours_in_the_docs_are_those_of_plan():
    text = (ROOT / "docs" / "store.md").read_text(encoding="utf-8")
    table = [line.strip("| ").split(" | ") for line in text.splitlines() if re.match(r"\| \d+ \|", line)]
    sizes = (64_000_000, 256_000_000, 512_000_000, 2_000_000_000)
    assert [int(row[0]) for row in table] == [1, 5, 20, 100, 400]
    for rate, *cells in table:
        assert cells == [hours_text(hours(StoreSettings(max_size=size), int(rate))) for size in sizes]


def test_plan_says_how_long_an_outage_may_last(tmp_path):
    plan = plan_of(load(EXAMPLE))
    assert plan["stored_per_s"] > plan["readings_per_s"]  # counters are three values
    shown = " ".join(gateway("plan", "--config", EXAMPLE).stdout.split())
    assert f"an outage may last {hours_text(plan['hours_offline'])}: so long the store of 512 MB" in shown
    small = tmp_path / "gateway.toml"
    small.write_text(EXAMPLE.read_text(encoding="utf-8").replace('"512MB"', '"8MB"'), encoding="utf-8")
    assert "an outage may last 3." in gateway("plan", "--config", small).stdout


def test_the_picture_shows_every_request_device_and_load(overfull):
    plan = plan_of(load(overfull))
    root = ET.fromstring(picture(plan))
    words = [text.text for text in root.iter(f"{SVG}text")]
    assert "tn-p1-cab-014 · Tây Ninh / Phường 1 / tủ 14" in words
    for bus in plan["buses"]:
        assert {bus["name"], *bus["timeline"]["devices"]} <= set(words)
    assert any("needs" in word and "readings are skipped" in word for word in words)
    bars = [rect for rect in root.iter(f"{SVG}rect") if rect.get("height") == "34"]
    assert len(bars) == sum(len(bus["timeline"]["requests"]) for bus in plan["buses"])
    assert {bar.get("fill") for bar in bars} <= {*PALETTE, "#999999"}
    assert max(float(bar.get("x")) + float(bar.get("width")) for bar in bars) <= 1600
    assert min(int(text.get("font-size")) for text in root.iter(f"{SVG}text")) >= 24


def test_names_cannot_break_the_picture():
    plan = plan_of(load(EXAMPLE))
    plan["site"] = "<script> & \"'"
    assert "&lt;script&gt; &amp;" in picture(plan)
    plan["buses"] = []
    assert ET.fromstring(picture(plan)) is not None


def test_the_timeline_for_machines(overfull):
    shown = gateway("plan", "--config", overfull, "--json")
    line, plc = (bus["timeline"] for bus in json.loads(shown.stdout)["buses"])
    assert shown.returncode == 0
    assert line["missed"] > 0
    assert {request["device"] for request in plc["requests"]} == {"pump"}
    assert plc["missed"] == 0
    assert line["asap"] > 0
    assert all(0 <= request["at"] < line["seconds"] for request in line["requests"])


def test_a_bus_that_cannot_keep_up_is_told_what_to_ask_less_often(overfull):
    plan = json.loads(gateway("plan", "--config", overfull, "--json").stdout)
    bus = plan["buses"][0]
    assert bus["utilisation"] > 1
    saved = sum(one["seconds"] * (1 / one["every_s"] - 1 / one["proposed_s"]) for one in bus["slower"])
    assert bus["utilisation"] - saved <= ENOUGH
    loads = [one["load"] for one in bus["slower"]]
    assert loads == sorted(loads, reverse=True)
    shown = " ".join(gateway("plan", "--config", overfull).stdout.split())
    assert "instead of 1 s" in shown
    assert "meter-1" in shown


def test_no_proposal_where_none_is_needed_and_an_end_to_it_where_much_is():
    assert slower([]) == []
    huge = [{"device": f"d{n}", "every_s": 0.01, "points": ["p"], "seconds": 3600.0} for n in range(20)]
    assert min(one["proposed_s"] for one in slower(huge)) > 3600


def test_a_timeline_on_the_terminal():
    shown = gateway("plan", "--config", EXAMPLE).stdout
    assert "meter-1 │" in shown
    assert "one column is" in " ".join(shown.split())


def test_a_picture_that_cannot_be_written_is_one_sentence(tmp_path):
    shown = gateway("plan", "--config", EXAMPLE, "--picture", tmp_path / "no" / "plan.svg")
    assert shown.returncode == 1
    assert "cannot be written" in shown.stderr
    assert "Traceback" not in shown.stderr
