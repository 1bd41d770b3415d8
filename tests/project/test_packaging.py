"""What a wheel holds, what it makes importable, and what the agent loads to run."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Build the wheel from a copy, so that the checkout stays clean."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    tracked = ("gateway", "drivers", "firmware_tools", "pyproject.toml", "README.md", "config", "systemd", "tests")
    source.mkdir()
    for name in tracked:
        subprocess.run(["cp", "-r", str(ROOT / name), str(source)], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*command, "--disable-pip-version-check", "."], cwd=source, check=True)
    (built,) = folder.glob("*.whl")
    return built


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return [name for name in archive.namelist() if ".dist-info/" not in name]


def test_a_wheel_holds_exactly_the_three_packages(wheel):
    assert {name.split("/")[0] for name in names(wheel)} == {"gateway", "drivers", "firmware_tools"}


def test_a_wheel_carries_every_module_and_every_profile(wheel):
    here = {
        str(path.relative_to(ROOT))
        for room in ("gateway", "drivers", "firmware_tools")
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert here - set(names(wheel)) == set()


def test_config_and_systemd_are_not_importable(tmp_path):
    probe = "import importlib.util as u, json; print(json.dumps([bool(u.find_spec(n)) for n in ('config', 'systemd')]))"
    shown = subprocess.run([sys.executable, "-c", probe], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert json.loads(shown.stdout) == [False, False]


def test_the_run_path_loads_nothing_for_eyes_only(tmp_path):
    """`gateway run` up to the composition root, as a process: a Pi pays for every module."""
    probe = (
        "import sys; from gateway.__main__ import main\n"
        "try: main(['run', '--config', '/nowhere/gateway.toml'])\n"
        "finally: print(' '.join(sorted(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", probe], cwd=tmp_path, capture_output=True, text=True, check=False)
    loaded = set(shown.stdout.split())
    assert {"gateway.app", "gateway.store", "gateway.uplink.publisher", "structlog"} <= loaded
    heavy = {"rich", "typer", "click", "pygments", "iotcore", "pydantic"}
    assert {name for name in loaded if name.split(".")[0] in heavy} == set()
    assert not [name for name in loaded if name.startswith(("gateway.simulator", "gateway.ioc"))]


def loaded_by(code: str, folder: Path) -> set[str]:
    probe = f"import sys\n{code}\nprint(' '.join(sorted(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", probe], cwd=folder, capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in shown.stdout.split()}


def test_decoding_needs_msgpack_and_nothing_else(tmp_path):
    loaded = loaded_by("import gateway.ioc.decode, gateway.ioc.ledger", tmp_path)
    assert "msgpack" in loaded
    assert loaded & {"pydantic", "pymodbus", "serial", "structlog", "aiomqtt", "paho", "rich", "asyncio"} == set()


def test_the_iocs_side_runs_without_the_agents_libraries(tmp_path):
    code = "import gateway.cli.ioc, gateway.cli.ioc_view, gateway.ioc.receiver, gateway.uplink.mqtt"
    assert loaded_by(code, tmp_path) & {"pydantic", "pymodbus", "serial", "structlog"} == set()


def test_a_library_that_is_missing_is_one_sentence(tmp_path):
    code = "import sys; sys.modules['pydantic'] = None; from gateway.__main__ import main; sys.exit(main(['check']))"
    shown = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert shown.returncode == 1
    assert shown.stderr == "gateway: pydantic is not installed: `pip install 'smart-city-gateway[agent]'`\n"
