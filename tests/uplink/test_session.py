"""One connection: what it says when it fails, and how soon it knows that it has ended."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import UplinkError
from gateway.model import Uplink
from gateway.uplink import mqtt, refusals
from gateway.uplink.access import endpoint
from gateway.uplink.message import NOBODY_LISTENS, SUCCESS, Labels, Will
from gateway.uplink.mqtt import Session


async def failure(url: str, **access: Any) -> str:
    with pytest.raises(UplinkError) as caught:
        await Session.open(url, Uplink((url,), **access), "someone")
    return str(caught.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://broker", ("broker", 1883, False)),
        ("mqtts://broker", ("broker", 8883, True)),
        ("mqtts://[::1]:1", ("::1", 1, True)),
    ],
)
def test_addresses(url: str, expected: tuple[str, int, bool]) -> None:
    assert endpoint(url) == expected


@pytest.mark.parametrize("url", ["", "broker:1883", "http://broker", "mqtt://", "mqtt://broker:x", "mqtt://[::1"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(UplinkError, match="Write mqtts://host:8883"):
        endpoint(url)


async def test_reason_codes_and_messages(mosquitto: Any) -> None:
    broker = mosquitto()
    session = await Session.open(broker.url, Uplink((broker.url,)), "a")
    assert (session.version, session.sees_refusals, session.session_present) == ("5", True, False)
    assert await session.publish("x", b"1", labels=Labels("text/plain", (("a", "b"),))) == NOBODY_LISTENS
    assert await session.subscribe("x") == []
    assert await session.publish("x", "điện".encode()) == SUCCESS
    assert await session.publish("x", b"0", qos=0) == SUCCESS
    messages = session.messages()
    assert [(await anext(messages)).payload.decode() for _ in range(2)] == ["điện", "0"]
    await session.close()
    assert session.closed.done()
    with pytest.raises(UplinkError):
        await anext(messages)
    with pytest.raises(UplinkError):
        session.publish("x", b"2")


async def test_what_nobody_asked_for_is_not_kept(mosquitto: Any) -> None:
    broker = mosquitto()
    access = Uplink((broker.url,))
    session = await Session.open(broker.url, access, "once", expiry=0)
    await session.subscribe("x")
    await session.close()
    sender = await Session.open(broker.url, access, "sender", expiry=0)
    assert await sender.publish("x", b"1") == NOBODY_LISTENS
    await sender.close()


async def test_a_message_is_acknowledged_when_the_next_is_asked_for(mosquitto: Any) -> None:
    broker = mosquitto()
    access = Uplink((broker.url,))
    sender = await Session.open(broker.url, access, "sender", expiry=0)
    first = await Session.open(broker.url, access, "receiver")
    await first.subscribe("x")
    for i in range(3):
        await sender.publish("x", b"%d" % i)
    messages = first.messages()
    assert (await anext(messages)).payload == b"0"
    assert (await anext(messages)).payload == b"1"  # 0 is done, 1 is not
    await first.close()
    second = await Session.open(broker.url, access, "receiver")
    assert second.session_present
    messages = second.messages()
    assert [(await anext(messages)).payload for _ in range(2)] == [b"1", b"2"]
    await second.close()
    await sender.close()


async def test_a_cut_is_noticed_at_once(fake_broker: Any) -> None:
    fake_broker.answer = lambda message: "withhold"
    session = await Session.open(fake_broker.url, Uplink(()), "a")
    future = session.publish("x", b"1")
    await asyncio.sleep(0)
    fake_broker.cut()
    with pytest.raises(UplinkError, match="lost"):
        await asyncio.wait_for(future, 5)
    assert session.closed.done()
    await session.close()


async def test_many_unanswered_messages_all_fail_with_the_connection(fake_broker: Any) -> None:
    fake_broker.answer = lambda message: "withhold"
    session = await Session.open(fake_broker.url, Uplink(()), "a")
    futures = [session.publish("x", b"1") for _ in range(100)]
    fake_broker.cut()
    results = await asyncio.wait_for(asyncio.gather(*futures, return_exceptions=True), 5)
    assert all(isinstance(result, UplinkError) for result in results)
    await session.close()


async def test_a_peer_that_is_silent_is_left(mosquitto: Any) -> None:
    """Stopped, not ended: the kernel still acknowledges, only pings stay unanswered. paho alone takes twice as long."""
    broker = mosquitto()
    session = await Session.open(broker.url, Uplink((broker.url,), keepalive=2.0), "a")
    loop = asyncio.get_running_loop()
    os.kill(broker._process.pid, signal.SIGSTOP)
    stopped = loop.time()
    try:
        assert "did not answer a ping" in await asyncio.wait_for(asyncio.shield(session.closed), 15)
        assert loop.time() - stopped < 1.9 * 2.0
    finally:
        os.kill(broker._process.pid, signal.SIGCONT)
        await session.close()


async def test_a_quiet_connection_lives(fake_broker: Any, until: Any) -> None:
    session = await Session.open(fake_broker.url, Uplink((), keepalive=1.0), "a")
    await until(lambda: fake_broker.pings >= 3, "three answered pings")
    assert not session.closed.done()
    await session.close()


async def test_a_slow_line_is_not_taken_for_a_dead_one() -> None:
    """One message takes four times as long as a dead broker is waited for."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"\x20\x03\x00\x00\x00")
        taken = 0
        while taken < 600_000:
            taken += len(await reader.read(5_000))
            await asyncio.sleep(0.05)  # the line's pace
        writer.write(b"\x40\x02\x00\x01")
        await reader.read()
        writer.close()

    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listener.bind(("127.0.0.1", 0))
    server = await asyncio.start_server(serve, sock=listener, limit=5_000)
    async with server:
        url = f"mqtt://127.0.0.1:{listener.getsockname()[1]}"
        session = await Session.open(url, Uplink((url,), keepalive=1.0), "a")
        assert await asyncio.wait_for(session.publish("x", bytes(600_000)), 20) == SUCCESS
        await session.close()


async def test_what_has_not_reached_the_broker_is_known(fake_broker: Any, until: Any) -> None:
    fake_broker.puback_delay = 3600.0  # it reads no more after the first message
    session = await Session.open(fake_broker.url, Uplink(()), "a")
    futures = [session.publish("x", bytes(2**20)) for _ in range(8)]
    await until(lambda: fake_broker.published, "the first message")
    assert session.unsent > 2**20
    fake_broker.cut()
    await asyncio.wait_for(asyncio.gather(*futures, return_exceptions=True), 5)
    await session.close()


async def test_refused_subscriptions_are_named(mosquitto: Any, tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic read allowed\n")
    acl.chmod(0o600)
    broker = mosquitto(f"allow_anonymous true\nacl_file {acl}\n")
    session = await Session.open(broker.url, Uplink((broker.url,)), "a")
    assert await session.publish("denied", b"1") == 0x87
    assert refusals.reason(0x87) == "not authorised"
    await session.close()


async def test_nobody_listens_on_the_port(free_port: Any) -> None:
    assert "nobody listens on that port" in await failure(f"mqtt://127.0.0.1:{free_port()}")


async def test_a_name_that_does_not_resolve() -> None:
    assert "cannot be resolved" in await failure("mqtt://no-such-host.invalid")
    assert "cannot be resolved" in await failure(f"mqtt://{'x' * 70}.invalid")


async def test_a_web_server_on_the_port(fake_broker: Any) -> None:
    fake_broker.greeting = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n\r\n<html>no</html>"
    assert "not MQTT's" in await asyncio.wait_for(failure(fake_broker.url), 5)


async def test_no_answer(fake_broker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "CONNECT_WITHIN", 0.2)
    fake_broker.silent = True
    assert "no answer in time" in await asyncio.wait_for(failure(fake_broker.url), 5)


@pytest.mark.parametrize(
    ("code", "words"),
    [(0x86, "user name or the password"), (0x87, "not authorised"), (0x89, "busy"), (0x90, "Topic name invalid")],
)
async def test_refusals_are_sentences(fake_broker: Any, code: int, words: str) -> None:
    fake_broker.connack = code
    assert words in await failure(fake_broker.url)


async def test_neither_5_nor_3_1_1(fake_broker: Any) -> None:
    fake_broker.versions = ()
    text = await asyncio.wait_for(failure(fake_broker.url), 5)
    assert text.startswith(f"The broker {fake_broker.url}")


@pytest.mark.parametrize(("code", "words"), [(0x8E, "second gateway with the same"), (0x8B, "Server shutting down")])
async def test_the_brokers_own_reason_is_told(fake_broker: Any, code: int, words: str) -> None:
    session = await Session.open(fake_broker.url, Uplink(()), "a")
    fake_broker.dismiss(code)
    assert words in await asyncio.wait_for(asyncio.shield(session.closed), 5)
    await session.close()


async def test_the_will_is_published_when_the_process_dies(mosquitto: Any) -> None:
    broker = mosquitto()
    watcher = await Session.open(broker.url, Uplink((broker.url,)), "watcher", expiry=0)
    await watcher.subscribe("will")
    session = await Session.open(broker.url, Uplink((broker.url,)), "a", Will("will", b"dead"))
    session._link._client.socket().close()
    message = await asyncio.wait_for(anext(watcher.messages()), 5)
    assert message.payload == b"dead"
    session._link.drop("test")
    await watcher.close()


async def test_username_and_password_file(mosquitto: Any, tmp_path: Path) -> None:
    passwords, secret = tmp_path / "passwords", tmp_path / "secret"
    passwords.touch(mode=0o600)
    subprocess.run(["mosquitto_passwd", "-b", str(passwords), "trạm-1", "mật khẩu"], check=True, capture_output=True)
    secret.write_text("mật khẩu\n")
    broker = mosquitto(f"allow_anonymous false\npassword_file {passwords}\n")
    session = await Session.open(broker.url, Uplink((), username="trạm-1", password_file=str(secret)), "a")
    await session.close()
    secret.write_text("wrong\n")
    assert "not authorised" in await failure(broker.url, username="trạm-1", password_file=str(secret))
    assert "No uplink.username is configured" in await failure(broker.url)
    assert "cannot be read" in await failure(broker.url, username="trạm-1", password_file=str(tmp_path / "none"))
    secret.write_bytes(b"x" * 5000)
    assert "not a password" in await failure(broker.url, username="trạm-1", password_file=str(secret))


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem signs server.pem (localhost) and client.pem; other-ca.pem signs nothing of theirs."""
    folder = tmp_path_factory.mktemp("certificates")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for name in ("ca", "other-ca"):
        openssl(
            folder,
            "req",
            "-x509",
            *key,
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.pem",
            "-days",
            "9",
            "-subj",
            f"/CN={name}",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
        )
    for name, extension in (("server", "subjectAltName=DNS:localhost"), ("client", "extendedKeyUsage=clientAuth")):
        (folder / f"{name}.ext").write_text(extension)
        openssl(folder, "req", "-new", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signer = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", f"{name}.ext"]
        openssl(folder, "x509", "-req", "-in", f"{name}.csr", *signer, "-out", f"{name}.pem", "-days", "9")
    return folder


async def test_tls_with_a_client_certificate(mosquitto: Any, certificates: Path) -> None:
    def at(name: str) -> str:
        return str(certificates / name)

    files = f"cafile {at('ca.pem')}\ncertfile {at('server.pem')}\nkeyfile {at('server.key')}\nrequire_certificate true"
    broker = mosquitto(listener=files)
    url = f"mqtts://localhost:{broker.port}"
    good = {"ca": at("ca.pem"), "cert": at("client.pem"), "key": at("client.key")}
    session = await Session.open(url, Uplink((url,), **good), "a")
    assert await session.publish("x", b"1" * 100_000) == NOBODY_LISTENS
    await session.close()

    assert "not signed by uplink.ca" in await failure(url, **good | {"ca": at("other-ca.pem")})
    assert "machine's own list of authorities" in await failure(url)
    assert "for another name" in await failure(url.replace("localhost", "127.0.0.1"), **good)
    assert "cannot be used" in await failure(url, **good | {"cert": at("missing.pem")})
    assert "cannot be used" in await failure(url, **good | {"key": at("server.key")})
    assert "cannot be used" in await failure(url, ca=at("ca.key"))
    assert "certificate" in await asyncio.wait_for(failure(url, ca=at("ca.pem")), 5)
    assert "TLS is expected" in await asyncio.wait_for(failure(url.replace("mqtts", "mqtt")), 5)


async def test_tls_to_a_plain_port(mosquitto: Any, certificates: Path) -> None:
    broker = mosquitto()
    text = await asyncio.wait_for(failure(f"mqtts://localhost:{broker.port}", ca=str(certificates / "ca.pem")), 5)
    assert "TLS" in text


async def test_a_handshake_that_hangs_is_ended_with_its_attempt(monkeypatch: pytest.MonkeyPatch, until: Any) -> None:
    """The library shakes hands in one of the loop's few threads."""
    monkeypatch.setattr(mqtt, "CONNECT_WITHIN", 0.2)
    ended = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        ended.append(True)
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with server:
        url = f"mqtts://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for _ in range(3):
            assert "no answer in time" in await failure(url)
        await until(lambda: len(ended) == 3, "the end of the connections")


async def test_an_attempt_can_be_given_up(fake_broker: Any, until: Any) -> None:
    fake_broker.silent = True
    task = asyncio.create_task(Session.open(fake_broker.url, Uplink(()), "a"))
    await until(lambda: fake_broker.connects, "the attempt")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await until(lambda: not fake_broker._writers, "the end of the connection")


async def test_the_socket_is_set_up_for_small_messages_and_dead_peers(fake_broker: Any) -> None:
    session = await Session.open(fake_broker.url, Uplink((), keepalive=20.0), "a")
    sock = session._link._client.socket()
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000
    await session.close()
