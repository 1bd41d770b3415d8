"""Certificates: when they end, who is warned, and whose fault a wrong date is. openssl makes them."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway import certificates
from gateway.certificates import AUTHORITY, BROKER, DAY, OWN, Validity
from gateway.clock import Clock
from gateway.errors import UplinkError
from gateway.model import Uplink
from gateway.uplink.expiry import Expiry
from gateway.uplink.mqtt import Session
from gateway.uplink.names import Way

NOW = datetime.now(UTC).replace(microsecond=0)


def seconds(moment: datetime) -> float:
    return moment.timestamp()


class Authority:
    """A small CA: issues certificates with any dates."""

    def __init__(self, folder: Path, begins: datetime = NOW - timedelta(days=3), days: int = 3650) -> None:
        self.folder = folder
        folder.mkdir()
        self.pem = folder / "ca.pem"
        (folder / "index.txt").touch()
        (folder / "serial").write_text("01\n")
        (folder / "ca.cnf").write_text(
            "[ca]\ndefault_ca = d\n[d]\ndatabase = index.txt\nserial = serial\nnew_certs_dir = .\n"
            "certificate = ca.pem\nprivate_key = ca.key\ndefault_md = sha256\npolicy = p\nunique_subject = no\n"
            "copy_extensions = copy\n"
            "[p]\ncommonName = supplied\n[v3]\nbasicConstraints = critical,CA:true\nkeyUsage = critical,keyCertSign\n"
        )
        self._request("ca", "/CN=authority")
        dates = self._dates(begins, begins + timedelta(days=days))
        self.run(
            "ca", "-selfsign", "-in", "ca.csr", "-keyfile", "ca.key", "-extensions", "v3", "-out", "ca.pem", *dates
        )

    def run(self, *arguments: str) -> None:
        batch = ("-config", "ca.cnf", "-batch", "-notext") if arguments[0] == "ca" else ()
        subprocess.run(
            ["openssl", arguments[0], *batch, *arguments[1:]], cwd=self.folder, check=True, capture_output=True
        )

    def issue(self, name: str, begins: datetime, ends: datetime) -> Path:
        self._request(name, f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
        self.run("ca", "-in", f"{name}.csr", "-out", f"{name}.pem", *self._dates(begins, ends))
        return self.folder / f"{name}.pem"

    def _request(self, name: str, subject: str, *more: str) -> None:
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key")
        self.run("req", "-new", *key, "-subj", subject, "-out", f"{name}.csr", *more)

    def _dates(self, begins: datetime, ends: datetime) -> tuple[str, ...]:
        return "-startdate", f"{begins:%Y%m%d%H%M%SZ}", "-enddate", f"{ends:%Y%m%d%H%M%SZ}"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("x") / "authority")


@pytest.mark.parametrize(
    ("begins", "ends"),
    [
        (datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC), datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (datetime(1950, 1, 1, tzinfo=UTC), datetime(2050, 1, 1, tzinfo=UTC)),  # the first GeneralizedTime
        (datetime(2051, 6, 7, 8, 9, 10, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_validity_is_what_openssl_wrote(authority: Authority, begins: datetime, ends: datetime) -> None:
    pem = authority.issue(f"c{begins.year}", begins, ends)
    assert certificates.in_file(str(pem)) == [Validity(seconds(begins), seconds(ends))]


def test_a_file_with_several(authority: Authority, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    one = authority.issue("one", NOW, NOW + timedelta(days=5))
    both.write_bytes(b"# remarks\r\n" + one.read_bytes() + authority.pem.read_bytes().replace(b"\n", b"\r\n"))
    assert [round((v.ends - seconds(NOW)) / DAY) for v in certificates.in_file(str(both))] == [5, 3647]


def test_the_machines_own_list_of_authorities_can_be_read() -> None:
    path = Path("/etc/ssl/certs/ca-certificates.crt")
    if not path.exists():
        pytest.skip("this machine has none")
    found = certificates.all_in(path.read_bytes())
    assert len(found) == path.read_bytes().count(b"BEGIN CERTIFICATE")
    assert all(one.begins < one.ends for one in found)


def test_what_is_no_certificate(authority: Authority, tmp_path: Path) -> None:
    der = tmp_path / "x.der"
    authority.run("x509", "-in", "ca.pem", "-outform", "DER", "-out", str(der))
    whole = der.read_bytes()
    assert certificates.validity(whole).begins < seconds(NOW)
    for cut in range(0, 200, 3):
        with pytest.raises(ValueError):
            certificates.validity(whole[:cut])
    with pytest.raises(ValueError):
        certificates.validity(bytes(100))
    assert certificates.in_file(str(tmp_path / "none")) == []
    assert certificates.in_file(str(authority.folder / "ca.key")) == []
    (tmp_path / "bad").write_bytes(b"-----BEGIN CERTIFICATE-----\nMIIB!\n-----END CERTIFICATE-----\n")
    assert certificates.in_file(str(tmp_path / "bad")) == []


def test_the_soonest_that_still_counts() -> None:
    old, soon, late = (Validity(0, end) for end in (50.0, 150.0, 900.0))
    assert certificates.soonest([old, late, soon], 100.0) == 150.0
    assert certificates.soonest([old], 100.0) == 50.0
    assert certificates.soonest([], 100.0) is None


def test_each_threshold_is_told_once_and_louder() -> None:
    expiry, told = Expiry(), []
    ends = 100 * DAY
    for hour in range(60 * 24, 101 * 24 + 1):
        told += [(hour / 24, body) for body in expiry.look(OWN, ends, hour * 3600.0)]
    assert [day for day, _ in told] == [70, 86, 93, 99, 100]
    bodies = [body for _, body in told]
    assert [body["severity"] for body in bodies] == ["info", "warning", "error", "critical", "critical"]
    assert [body["data"]["days"] for body in bodies] == [30, 14, 7, 1, 0]
    assert {body["id"] for body in bodies} == {"certificate-expires/own"}
    assert "has expired" in bodies[-1]["text"]
    [cleared] = expiry.look(OWN, ends + 365 * DAY, 101 * DAY)
    assert (cleared["id"], cleared["state"]) == ("certificate-expires/own", "cleared")
    assert expiry.look(OWN, ends + 365 * DAY, 101 * DAY) == []


@pytest.fixture
def issued(tmp_path: Path) -> Any:
    """An authority and a broker's certificate that end in so many days; returns what the rig and mosquitto need."""

    def issue(days: float, begins: float = -2) -> Authority:
        authority = Authority(tmp_path / f"authority{days}")
        for name in ("server", "client"):
            authority.issue(name, NOW + timedelta(days=begins), NOW + timedelta(days=days))
        return authority

    return issue


def tls(mosquitto: Any, authority: Authority) -> Any:
    folder = authority.folder
    files = f"cafile {folder}/ca.pem\ncertfile {folder}/server.pem\nkeyfile {folder}/server.key\n"
    return mosquitto(listener=files + "require_certificate true\n")


def files_of(authority: Authority) -> dict[str, str]:
    return {
        name: f"{authority.folder}/{file}"
        for name, file in (("ca", "ca.pem"), ("cert", "client.pem"), ("key", "client.key"))
    }


async def test_the_gateway_warns_of_its_own_and_the_brokers_certificate(
    mosquitto: Any, rig: Any, until: Any, issued: Any
) -> None:
    authority = issued(6)
    broker = tls(mosquitto, authority)
    gateway = rig(f"mqtts://localhost:{broker.port}", **files_of(authority))
    await gateway.start()
    await until(lambda: gateway.publisher.online, "the connection")
    await until(lambda: gateway.publisher._expiry._told == {OWN: 7, BROKER: 7}, "both warnings")
    authority.issue("client", NOW, NOW + timedelta(days=300))
    await until(lambda: gateway.publisher._expiry._told == {BROKER: 7}, "the renewed one")
    authority.pem.write_bytes(authority.issue("new", NOW, NOW + timedelta(days=20)).read_bytes())
    await until(lambda: gateway.publisher._expiry._told == {BROKER: 7, AUTHORITY: 30}, "the authority's")


async def test_nothing_is_said_about_dates_before_the_clock_is_trusted(
    mosquitto: Any, rig: Any, until: Any, issued: Any
) -> None:
    authority = issued(6)
    broker = tls(mosquitto, authority)
    synchronised = False
    clock = Clock("kernel", boot="0123456789ab", synchronised=lambda: synchronised)
    gateway = rig(f"mqtts://localhost:{broker.port}", clock=clock, **files_of(authority))
    await gateway.start()
    await until(lambda: gateway.publisher.online, "the connection")
    assert gateway.publisher._expiry._told == {}
    synchronised = True
    clock.look()
    await until(lambda: gateway.publisher._expiry._told == {OWN: 7, BROKER: 7}, "the warnings")


@pytest.mark.parametrize(
    ("begins", "days", "trusted", "words"),
    [
        (2, 30, False, ("not valid yet", "has not been set since the start", "Probably the clock is wrong")),
        (2, 30, True, ("not valid yet", "Check this date")),
        (-2, -1, False, ("has expired", "has not been set since the start", "Probably the clock is wrong")),
        (-2, -1, True, ("has expired", "be renewed")),
    ],
)
async def test_a_wrong_date_is_told_from_an_old_certificate(
    mosquitto: Any, issued: Any, begins: float, days: float, trusted: bool, words: tuple[str, ...]
) -> None:
    authority = issued(days, begins)
    broker = tls(mosquitto, authority)
    url = f"mqtts://localhost:{broker.port}"
    clock = Clock("system" if trusted else "kernel", boot="0123456789ab", synchronised=lambda: False)
    with pytest.raises(UplinkError) as caught:
        await Session.open(url, Uplink((url,), **files_of(authority)), "a", way=Way(clock=clock))
    text = str(caught.value)
    assert all(word in text for word in words), text
    assert f"{NOW:%Y-%m-%d}" in text
    assert f"valid from {NOW + timedelta(days=begins):%Y-%m-%d} to {NOW + timedelta(days=days):%Y-%m-%d}" in text


@pytest.mark.parametrize(
    ("trusted", "words"),
    [
        (True, ("own certificate", "client.pem (valid from ", "issue a new one")),
        (False, ("closed the connection before it accepted it", "wants another client certificate")),
    ],
)
async def test_an_expired_certificate_of_ones_own_is_named(
    mosquitto: Any, issued: Any, trusted: bool, words: tuple[str, ...]
) -> None:
    """The broker says nothing of it over TLS 1.3; a gateway that does not know the date blames nothing."""
    authority = issued(30)
    authority.issue("client", NOW - timedelta(days=2), NOW - timedelta(days=1))
    url = f"mqtts://localhost:{tls(mosquitto, authority).port}"
    clock = Clock("system" if trusted else "kernel", boot="0123456789ab", synchronised=lambda: False)
    with pytest.raises(UplinkError) as caught:
        await Session.open(url, Uplink((url,), **files_of(authority)), "a", way=Way(clock=clock))
    assert all(word in str(caught.value) for word in words), caught.value


async def test_an_expired_certificate_is_tried_again(mosquitto: Any, rig: Any, until: Any, issued: Any) -> None:
    authority = issued(-1)
    broker = tls(mosquitto, authority)
    gateway = rig(f"mqtts://localhost:{broker.port}", **files_of(authority))
    await gateway.start()
    await gateway.read(1.0)
    await until(lambda: gateway.publisher.counters.failures >= 3, "some attempts")
    assert "expired" in gateway.publisher.trouble
    assert gateway.store.stats()["pending"] == 2
