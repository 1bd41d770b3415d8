"""What this machine lacks: told by check, no reason for load to refuse."""

import os
import pty
import subprocess
import time
from pathlib import Path

import pytest

from gateway.settings import certificate_notes, check, load


@pytest.fixture
def fitting(site_file, tmp_path):
    """A site file that fits this machine: a real character device, readable files, a directory to write to."""
    master, slave = pty.openpty()
    secret = tmp_path / "secret"
    secret.write_text("x")
    site_file.replaced("/dev/ttyGOOD", os.ttyname(slave)).replaced("/etc/gateway/secret", str(secret))
    site_file.replaced("/var/lib/gateway", str(tmp_path / "not" / "yet" / "there"))
    yield site_file
    os.close(master)
    os.close(slave)


def only_problem(site_file):
    path = site_file.saved()
    assert load(path).gateway == "tn-p1-cab-014"
    site, [problem] = check(path)
    assert site is not None
    assert problem.machine
    assert problem.advice
    return problem


def test_a_file_that_fits_has_no_problem(fitting):
    site, problems = check(fitting.saved())
    assert site is not None
    assert problems == []


def test_a_port_that_is_not_there(fitting):
    port = load(fitting.saved()).buses[0].port.port
    fitting.replaced(port, "/dev/serial/by-path/none")
    problem = only_problem(fitting)
    assert (problem.path, problem.line) == ("bus[0].serial.port", fitting.line("by-path/none"))
    assert "no port /dev/serial/by-path/none" in problem.text
    assert "plugged in" in problem.advice or "present" in problem.advice


def test_a_port_that_is_no_port(fitting, tmp_path):
    port = load(fitting.saved()).buses[0].port.port
    fitting.replaced(port, str(tmp_path))
    assert "not a serial port" in only_problem(fitting).text


@pytest.mark.parametrize("key", ["ca", "cert", "key"])
def test_a_certificate_that_is_not_there(fitting, tmp_path, key):
    present = tmp_path / "present"
    present.write_text("x")
    names = {"cert": "key", "key": "cert"}
    other = f'{names[key]} = "{present}"\n' if key in names else ""
    fitting.replaced("[uplink]", f'[uplink]\n{other}{key} = "/none/there.pem"')
    problem = only_problem(fitting)
    assert (problem.path, problem.line) == (f"uplink.{key}", fitting.line("/none/there.pem"))


@pytest.mark.parametrize("key", ["ca", "cert", "key"])
def test_a_certificate_for_a_device_that_is_not_there(fitting, tmp_path, key):
    present = tmp_path / "present"
    present.write_text("x")
    files = {name: str(present) for name in ("ca", "cert", "key")} | {key: "/none/there.pem"}
    written = ", ".join(f'{name} = "{path}"' for name, path in files.items())
    fitting.replaced("port = 502", f"tls = {{ {written} }}")
    problem = only_problem(fitting)
    assert (problem.path, problem.line) == (f"bus[1].tcp.tls.{key}", fitting.line("/none/there.pem"))
    assert "no file /none/there.pem" in problem.text


def test_a_port_under_two_names(fitting, tmp_path):
    port = load(fitting.saved()).buses[0].port.port
    other = tmp_path / "by-id-name"
    other.symlink_to(port)
    fitting.replaced('tcp = { host = "192.168.10.20", port = 502 }', f'serial = {{ port = "{other}" }}')
    problem = only_problem(fitting)
    assert (problem.path, problem.line) == ("bus[1].serial.port", fitting.line("by-id-name"))
    assert problem.text == f"{other} is another name of the port of bus rs485-1: both are {port}"


def test_a_password_file_that_is_empty(fitting, tmp_path):
    (tmp_path / "secret").write_text("")
    assert "empty" in only_problem(fitting).text


def test_a_password_file_that_is_a_directory(fitting, tmp_path):
    (tmp_path / "secret").unlink()
    (tmp_path / "secret").mkdir()
    assert "cannot be read" in only_problem(fitting).text


def test_a_store_below_a_file(fitting, tmp_path):
    fitting.replaced(str(tmp_path / "not" / "yet" / "there"), str(tmp_path / "secret" / "x"))
    problem = only_problem(fitting)
    assert (problem.path, "not a directory" in problem.text) == ("store.path", True)


def test_what_is_forbidden_to_this_user_is_told(fitting, tmp_path, monkeypatch):
    """Root may do everything, so the kernel's answer is given here."""
    port = load(fitting.saved()).buses[0].port.port
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    _, problems = check(fitting.saved())
    assert [problem.path for problem in problems] == ["store.path", "bus[0].serial.port"]
    assert all("this user" in problem.text for problem in problems)
    assert Path(port).exists()


def test_problems_of_the_machine_come_in_the_order_of_lines(site_file):
    _, problems = check(site_file.saved())
    assert all(problem.machine for problem in problems)
    assert [problem.line for problem in problems] == sorted(problem.line for problem in problems)


def test_a_store_that_the_disk_cannot_hold(fitting, tmp_path):
    room = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    store = tmp_path / "not" / "yet" / "there"
    fitting.replaced(f'path = "{store}"', f'path = "{store}"\nmax_size = "{room // 10**6 + 1}MB"')
    problem = only_problem(fitting)
    assert problem.path == "store.max_size"
    assert "has room for" in problem.text


@pytest.mark.parametrize(("days", "told"), [(400, []), (20, ["expires in 19 days"]), (-1, ["has expired"])])
def test_certificates_that_will_expire_are_remarked_on(fitting, tmp_path, days, told):
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(tmp_path / "key")]
    command = ["openssl", "req", "-x509", *key, "-out", str(tmp_path / "ca"), "-days", "20", "-subj", "/CN=ca"]
    subprocess.run(command, check=True, capture_output=True)
    fitting.replaced("[uplink]", f'[uplink]\nca = "{tmp_path / "ca"}"')
    now = time.time() + (20 - days) * 86_400 + 60
    remarks = certificate_notes(load(fitting.saved()), now)
    assert [text for text, remark in zip(told, remarks, strict=True) if text not in remark] == []


def test_a_file_without_certificates_is_not_remarked_on(fitting, tmp_path):
    (tmp_path / "ca").write_text("x")
    fitting.replaced("[uplink]", f'[uplink]\nca = "{tmp_path / "ca"}"')
    assert certificate_notes(load(fitting.saved()), 0.0) == []
    assert check(fitting.path)[1] == []
