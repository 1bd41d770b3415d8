"""Who may import whom. Imports inside functions count; those for type checkers only do not."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IO = {"asyncio", "socket", "time", "sqlite3", "selectors", "threading", "subprocess"}


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports, as full dotted names."""
    found: set[str] = set()

    def walk(node: ast.AST) -> None:
        if is_type_checking(node):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                package = path.relative_to(ROOT).parts[: -node.level]
                module = ".".join([*package, module]).rstrip(".")
            found.add(module)
            found.update(f"{module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            walk(child)

    walk(ast.parse(path.read_text(encoding="utf-8")))
    return found


FILES = {
    str(path.relative_to(ROOT)): imports_of(path)
    for room in ("gateway", "drivers", "firmware_tools")
    for path in sorted((ROOT / room).rglob("*.py"))
}


def tops(modules: set[str]) -> set[str]:
    return {module.split(".")[0] for module in modules}


def within(module: str, *rooms: str) -> bool:
    return any(module == room or module.startswith(room + ".") for room in rooms)


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("drivers/")])
def test_drivers_are_pure_and_know_no_gateway(file):
    allowed = set(sys.stdlib_module_names) | {"drivers"}
    if file == "drivers/modbus/pdu.py":
        allowed |= {"pymodbus"}
    assert tops(FILES[file]) - allowed == set()
    assert tops(FILES[file]) & IO == set()


PURE = (
    "gateway/model.py",
    "gateway/errors.py",
    "gateway/spans.py",
    "gateway/settings/",
    "gateway/uplink/payload/",
    "gateway/ioc/",
)
PURE_PARTS = ("schedule", "health", "report", "cost", "diagnosis", "events", "grid", "timeline")
PURE_FIELD = tuple(f"gateway/field/{name}.py" for name in PURE_PARTS)


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith(PURE + PURE_FIELD)])
def test_pure_rooms_do_no_io(file):
    if file == "gateway/ioc/receiver.py":  # reads from the session it is given
        assert tops(FILES[file]) & (IO - {"asyncio"}) == set()
    else:
        assert tops(FILES[file]) & IO == set()


OWNERS = {
    "pymodbus": ("drivers/modbus/pdu.py",),
    "serial": ("gateway/field/serial_link.py",),
    "aiomqtt": ("gateway/uplink/mqtt.py",),
    "paho": ("gateway/uplink/mqtt.py",),
    "sqlite3": ("gateway/store/",),
    "time": ("gateway/clock.py",),
    "pydantic": ("gateway/settings/",),
    "rich": ("gateway/cli/",),
    "iotcore": ("gateway/cli/",),
    "structlog": ("gateway/log.py",),
}


@pytest.mark.parametrize("library", OWNERS)
def test_only_its_owner_imports(library):
    strangers = [f for f, modules in FILES.items() if library in tops(modules) and not f.startswith(OWNERS[library])]
    assert strangers == []


def test_only_the_composition_root_and_the_command_line_know_everybody():
    rooms = ("gateway.field", "gateway.store", "gateway.uplink.publisher", "gateway.uplink.mqtt", "gateway.simulator")
    for file, modules in FILES.items():
        if file.startswith(("gateway/cli/", "gateway/app.py")):
            continue
        here = ".".join(Path(file).with_suffix("").parts[:2])
        known = {room for room in rooms if any(within(module, room) for module in modules)}
        assert {room for room in known if not within(room, here)} <= ALLOWED.get(here, set()), file


ALLOWED = {"gateway.uplink": {"gateway.store"}, "gateway.control": {"gateway.field"}}
"""The publisher reads from the store: that is the flow. The desk asks the owners of the buses."""


def test_the_simulator_shares_no_code_with_the_codecs():
    for file, modules in FILES.items():
        if file.startswith("gateway/simulator/"):
            assert not [m for m in modules if within(m, "drivers.modbus", "pymodbus")], file


IOC_KNOWS = ("gateway.ioc", "gateway.uplink.payload", "gateway.model", "gateway.errors", "gateway.spans")


def test_the_ioc_knows_only_the_payload_and_the_values():
    for file, modules in FILES.items():
        if file.startswith("gateway/ioc/"):
            ours = {m for m in modules if within(m, "gateway", "drivers")}
            assert {m for m in ours if not within(m, *IOC_KNOWS)} <= {"gateway"}, file


def test_nobody_imports_data_or_tests():
    for file, modules in FILES.items():
        assert tops(modules) & {"config", "tests", "bench", "systemd"} == set(), file


def test_data_folders_hold_no_code():
    for folder in ("config", "systemd"):
        assert list((ROOT / folder).rglob("*.py")) == []


def test_exactly_one_broad_except_guards_the_drivers():
    broad = [
        file
        for file in FILES
        for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")))
    ]
    assert broad == ["gateway/field/talks.py"]
