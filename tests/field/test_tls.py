"""Modbus/TCP Security: the agent's link against pymodbus' TLS server and openssl's, good and in every wrong way.

Each failure is one sentence that says what to do next.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import subprocess
from dataclasses import replace
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any

import pytest
from pymodbus.framer import FramerType
from pymodbus.server import ModbusTcpServer, ModbusTlsServer
from pymodbus.simulator import DataType, SimData, SimDevice

from drivers.base import Exchange, Point
from drivers.modbus.register import Register
from gateway.clock import Clock
from gateway.errors import LinkError
from gateway.field import tcp_link
from gateway.field.poller import Poller
from gateway.field.ports import link_of
from gateway.field.tcp_link import TcpLink, explain_tls
from gateway.model import Bus, Device, Readings, TcpPort, Tls

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
IDENTIFIERS = "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
LEAVES = {
    "meter": ("plant", "subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth"),
    "gateway": ("plant", "extendedKeyUsage=clientAuth"),
    "stranger": ("other", "extendedKeyUsage=clientAuth"),
}
HOLDS = SimDevice(5, [SimData(0, values=[230.5], datatype=DataType.FLOAT32)])
READ = Exchange(b"\0\1\0\0\0\6\5\3\0\0\0\1", lambda _: None, 11, "FC3 holding 0")
VOLTAGE = Point("voltage", Register("holding", 0, "f32"), every=0.05)


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plant's authority signs meter.pem (localhost) and gateway.pem, another one stranger.pem."""
    folder = tmp_path_factory.mktemp("certificates")
    uses = ("-addext", "keyUsage=critical,keyCertSign,cRLSign", "-addext", "basicConstraints=critical,CA:TRUE")
    for name in ("plant", "other"):
        files = ("-keyout", f"{name}.key", "-out", f"{name}.pem")
        openssl(folder, "req", "-x509", *KEY, *files, "-days", "9", "-subj", f"/CN={name}", *uses)
    for name, (authority, extensions) in LEAVES.items():
        (folder / f"{name}.ext").write_text(IDENTIFIERS + extensions)
        openssl(folder, "req", "-new", *KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signer = ("-CA", f"{authority}.pem", "-CAkey", f"{authority}.key", "-CAcreateserial")
        files = ("-in", f"{name}.csr", "-extfile", f"{name}.ext", "-out", f"{name}.pem")
        openssl(folder, "x509", "-req", *files, *signer, "-days", "9")
    (folder / "text.pem").write_text("no certificate\n")
    openssl(folder, "ec", "-in", "gateway.key", "-aes256", "-passout", "pass:secret", "-out", "locked.key")
    return folder


@pytest.fixture
def tls(certificates: Path) -> Tls:
    """What a good site file says."""
    return Tls(*(str(certificates / name) for name in ("plant.pem", "gateway.pem", "gateway.key")))


@pytest.fixture
async def meter(certificates, free_port):
    """pymodbus' server, which wants a certificate of the plant; `meter(version)` gives its port."""
    servers = []

    async def start(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> int:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates / "meter.pem", certificates / "meter.key")
        context.load_verify_locations(certificates / "plant.pem")
        context.verify_mode = ssl.CERT_REQUIRED
        context.maximum_version = version
        address = ("127.0.0.1", free_port())
        servers.append(ModbusTlsServer(HOLDS, framer=FramerType.SOCKET, address=address, sslctx=context))
        await servers[-1].serve_forever(background=True)
        return address[1]

    yield start
    for server in servers:
        await server.shutdown()


class Sink:
    def __init__(self) -> None:
        self.samples: list[Any] = []
        self.events: list[Any] = []

    async def append(self, readings: Readings) -> None:
        self.samples += readings.samples

    async def append_message(self, stream: str, body: Any) -> None:
        self.events.append(body)


async def failure(port: TcpPort) -> str:
    """What the link says about an endpoint: when it opens or, with TLS 1.3, at the first read."""
    link = TcpLink(port, Clock("system"), numbered=True)
    try:
        await link.open()
        with pytest.raises(LinkError) as later:
            await link.exchange(READ, 5.0)
        return str(later.value)
    except LinkError as error:
        return str(error)
    finally:
        link.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_values_are_read_over_tls_with_certificates_on_both_sides(meter, tls, until, version):
    device = Device("meter-5", "modbus", 5, (VOLTAGE,), options={"unit": 5, "framing": "tcp"})
    bus = Bus("plc", TcpPort("localhost", await meter(version), tls), "tcp", (device,))
    clock, sink = Clock("system"), Sink()
    poller = Poller(bus, link_of(bus, clock), clock, sink, start=clock.monotonic())
    task = asyncio.create_task(poller.run())
    await until(lambda: len(sink.samples) >= 5 or task.done(), "the first readings")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert {tuple(sample) for sample in sink.samples} == {("voltage", 230.5, "good")}
    assert sink.events == []


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (
            {"ca": "other.pem"},
            r"shows a certificate that `tls.ca` does not vouch for .*write the file of the authority",
        ),
        ({"ca": "none.pem"}, r"`tls.ca` cannot be read: No such file.*none.pem; correct the path"),
        ({"ca": "text.pem"}, r"`tls.ca` holds no certificate: .*text.pem"),
        ({"cert": "none.pem"}, r"`tls.cert` cannot be read: No such file.*none.pem; correct the path"),
        ({"key": "none.key"}, r"`tls.key` cannot be read: No such file.*none.key; correct the path"),
        ({"key": "meter.key"}, r"cannot be used \(KEY_VALUES_MISMATCH\): .*the key that belongs to it"),
        ({"key": "text.pem"}, r"cannot be used: .*both as PEM text"),
        ({"key": "locked.key"}, r"cannot be used.*the key without a password"),
    ],
    ids=lambda value: " ".join(value.values()) if isinstance(value, dict) else "",
)
async def test_a_file_that_does_not_serve_is_named_with_what_it_should_be(meter, tls, certificates, wrong, says):
    files = replace(tls, **{key: str(certificates / name) for key, name in wrong.items()})
    text = await failure(TcpPort("localhost", await meter(), files))
    assert_says(says, text)


async def test_a_certificate_for_another_name(meter, tls):
    text = await failure(TcpPort("127.0.0.1", await meter(), tls))
    assert_says(r"a certificate for another name than 127.0.0.1: write a name or address that stands in it", text)


async def test_a_certificate_that_does_not_hold_now_points_at_the_clock():
    port = TcpPort("localhost", 802)
    expired = ssl.SSLCertVerificationError()
    expired.reason, expired.verify_code, expired.verify_message = "CERTIFICATE_VERIFY_FAILED", 10, "it has expired"
    assert_says(r"\(it has expired\): is this gateway's clock right", explain_tls(port, expired))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_server_that_does_not_trust_us_and_hangs_up_without_a_word(meter, tls, certificates, version):
    """pymodbus sends no alert (asyncio of Python 3.11 drops it)."""
    stranger = replace(tls, cert=str(certificates / "stranger.pem"), key=str(certificates / "stranger.key"))
    text = await failure(TcpPort("localhost", await meter(version), stranger))
    assert_says(r"hangs up before its first answer: does it trust the authority that signed `tls.cert`", text)


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_a_server_that_does_not_trust_us_and_says_so(certificates, tls, free_port, version):
    stranger = replace(tls, cert=str(certificates / "stranger.pem"), key=str(certificates / "stranger.key"))
    port = free_port()
    files = ("-cert", "meter.pem", "-key", "meter.key", "-CAfile", "plant.pem")
    command = ("openssl", "s_server", "-accept", str(port), *files, "-Verify", "1", "-verify_return_error", version)
    server = await asyncio.create_subprocess_exec(*command, cwd=certificates, stdin=PIPE, stdout=PIPE, stderr=DEVNULL)
    try:
        assert server.stdout is not None
        await server.stdout.readuntil(b"ACCEPT")
        text = await failure(TcpPort("localhost", port, stranger))
    finally:
        server.terminate()
        await server.communicate()
    assert_says(r"refuses this gateway's certificate \(\w*ALERT_UNKNOWN_CA\): let it trust the authority", text)


async def test_a_port_without_tls_is_told_from_a_host_that_is_away(tls, free_port, monkeypatch):
    monkeypatch.setattr(tcp_link, "HANDSHAKE_TIMEOUT", 0.2)  # it takes what we say for half a request, and waits
    port = free_port()
    server = ModbusTcpServer(HOLDS, address=("127.0.0.1", port))
    await server.serve_forever(background=True)
    try:
        text = await failure(TcpPort("localhost", port, tls))
    finally:
        await server.shutdown()
    assert_says(rf"takes the connection, but does not speak TLS: is {port} its port of Modbus Security \(802", text)


async def test_a_port_that_answers_something_else(tls):
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 welcome\r\n")
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        gone.set()

    gone = asyncio.Event()
    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        text = await failure(TcpPort("localhost", port, tls))
        await gone.wait()
    assert_says(rf"does not agree on TLS \(\w+\): is {port} its port of Modbus Security", text)


async def test_a_port_where_nothing_listens(tls, free_port):
    assert_says(
        "nothing listens on port .*Modbus Security uses 802", await failure(TcpPort("localhost", free_port(), tls))
    )


def assert_says(pattern: str, text: str) -> None:
    """One line that says it, and nothing of Python's."""
    assert re.search(pattern, text), text
    assert not re.search(r"\n|Errno|_ssl\.c", text), text
