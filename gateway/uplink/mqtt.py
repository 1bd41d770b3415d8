"""One MQTT connection. The only importer of the MQTT client.

A Session is one connection: every connection gets a fresh client object, because the library would send what an old
one still holds a second time, beside the store. MQTT 5 first; 3.1.1 when the broker says that it does not know 5.
The library's private names that are used here hold for the pinned minor versions in pyproject.toml.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import lru_cache
from typing import Any, Self

import aiomqtt
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY, MQTT_ERR_SUCCESS
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from gateway.errors import UplinkError
from gateway.model import Uplink
from gateway.uplink import budget, trouble
from gateway.uplink.access import Endpoint, endpoint, password, suspected, tls_context
from gateway.uplink.message import FAILURES, SUCCESS, TOO_LARGE, Incoming, Labels, Will
from gateway.uplink.names import Line, Way, shown_by, unsent
from gateway.uplink.pulse import DEAD, PING, Pulse
from gateway.uplink.waiting import Answers, Inbox, answered, retrieved

CONNECT_WITHIN = 10.0
DAY = 86400
_TOO_NEW = {0x01, 0x84}  # CONNACK: unacceptable protocol version, as a 3.1.1 and as a 5 broker say it
_CHOKED = {0x82, 0x95}  # DISCONNECT: protocol error (also of the answer: mosquitto's PUBACK 0x95), packet too large
_UNANSWERED = 64  # messages that the broker may send before we have acknowledged the first
_MAX_INCOMING = 2 * 2**20  # the largest of ours is half of it
_MOST = 65535


class Session:
    """An open connection. `closed` is done when it has ended, with the reason as its result."""

    def __init__(self, link: _Link, version: str) -> None:
        self._link = link
        self.version = version
        """ "5" or "3.1.1"."""
        self.session_present = link.session_present
        self.receive_maximum = int(getattr(link.granted, "ReceiveMaximum", _MOST))
        self.maximum_packet: int | None = getattr(link.granted, "MaximumPacketSize", None)
        self.sees_refusals = version == "5"
        """Whether a PUBACK can say no: on 3.1.1 a refused message looks like an accepted one."""
        self.certificate = shown_by(link.socket)
        """From when until when the broker's certificate is valid; None without TLS."""
        self.closed = link.lost

    @classmethod
    async def open(
        cls,
        url: str,
        access: Uplink,
        identifier: str,
        will: Will | None = None,
        *,
        expiry: int = DAY,
        way: Way | None = None,
    ) -> Self:
        """Connect, or raise UplinkError: what happened, the probable cause, what to do.

        `access` holds the certificates and the password; `expiry` is how many seconds the broker keeps what it could
        not deliver (0: nothing, and nothing from before).
        """
        target, way = endpoint(url), way or Way()
        for protocol, version in ((aiomqtt.ProtocolVersion.V5, "5"), (aiomqtt.ProtocolVersion.V311, "3.1.1")):
            link = _Link(target, access, identifier, will=will, protocol=protocol, expiry=expiry, way=way)
            try:
                await link.reach()
            except MqttConnectError as error:
                code = _code(error.rc)
                if code in _TOO_NEW and version == "5":
                    continue
                raise trouble.refused(url, code, str(error.rc), access) from error
            except aiomqtt.MqttError as error:
                suspect = await asyncio.to_thread(suspected, link.failure, link.line.address, target.host, access)
                raise trouble.unreachable(url, link.failure, access, way.clock, suspect) from error
            return cls(link, version)
        raise AssertionError("the second round returns or raises")

    def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, labels: Labels | None = None
    ) -> asyncio.Future[int]:
        """Send now; the future gives the PUBACK's reason code later, or UplinkError when the connection ends first.

        A message of QoS 0 has the code 0 at once. One that is larger than the broker takes is not sent: TOO_LARGE.
        """
        if self.maximum_packet is not None and len(payload) > self.room(topic, labels):
            return answered(TOO_LARGE)
        return self._link.send(topic, payload, qos, retain, labels)

    def room(self, topic: str, labels: Labels | None = None) -> int:
        """How many bytes of payload fit into one packet on this topic (MQTT 5 section 3.3)."""
        if self.maximum_packet is None:
            return 2**28 - 1 - _MOST
        properties = _packed_size(labels) if labels else 1
        return self.maximum_packet - (1 + 4) - (2 + len(topic.encode())) - 2 - properties

    async def subscribe(self, *filters: str) -> list[str]:
        """Subscribe with QoS 1; return the filters that the broker refused."""
        codes = await self._link.ask_for(filters)
        return [name for name, code in zip(filters, codes, strict=False) if _code(code) >= FAILURES]

    async def messages(self) -> AsyncIterator[Incoming]:
        """Messages in order of arrival; each is acknowledged when the next one is asked for.

        Ends with UplinkError when the connection does.
        """
        while True:
            message = await self._link.inbox.next()
            yield message
            self._link.acknowledge(message)

    @property
    def choked(self) -> bool:
        """Whether it ended in the way of brokers that were sent more than they take, but had not said how much."""
        return self._link.ended_with in _CHOKED

    @property
    def taken_over(self) -> bool:
        """Whether it ended because another client has connected with the same id."""
        return self._link.taken_over

    @property
    def unsent(self) -> int:
        """Bytes that have not reached the broker's machine: while they become fewer, a slow line is not a dead one."""
        return self._link.unsent()

    @property
    def discarded(self) -> int:
        """How many incoming messages found the queue full."""
        return self._link.inbox.discarded

    async def close(self, within: float = 2.0) -> None:
        """Say goodbye (the will stays unpublished) and close the socket in any case."""
        self._link.goodbye()
        await asyncio.wait([self.closed], timeout=within)
        self._link.drop("the session was closed")


class _Link(aiomqtt.Client):
    """aiomqtt's client, made to see reason codes and the end of the connection at once."""

    def __init__(
        self,
        target: Endpoint,
        access: Uplink,
        identifier: str,
        *,
        will: Will | None,
        protocol: aiomqtt.ProtocolVersion,
        expiry: int,
        way: Way,
    ) -> None:
        newest = protocol is aiomqtt.ProtocolVersion.V5
        super().__init__(
            target.host,
            target.port,
            identifier=identifier,
            protocol=protocol,
            will=aiomqtt.Will(will.topic, will.payload, 1, retain=True) if will else None,
            clean_session=None if newest else expiry == 0,
            clean_start=expiry == 0 if newest else MQTT_CLEAN_START_FIRST_ONLY,
            timeout=CONNECT_WITHIN,
            keepalive=max(1, round(access.keepalive)),
            max_inflight_messages=0,  # the window is the publisher's; the library must never queue behind our back
            properties=_connect_properties(expiry) if newest else None,
        )
        self._newest = newest
        self._client.connect_timeout = CONNECT_WITHIN
        self._client.manual_ack_set(True)
        self.line = Line(way, target.host, target.port, access.keepalive)
        # The library would resolve the name and connect in its thread: it is given the open socket instead.
        self._client._create_socket_connection = lambda: self.line.socket  # type: ignore[method-assign]  # noqa: SLF001
        self._access, self._target, self._way = access, target, way
        self._abandoned = False
        self._answers, self.inbox = Answers(), Inbox()
        self.lost: asyncio.Future[str] = self._loop.create_future()
        self.failure: Exception | None = None
        self.granted: Properties | None = None
        self.session_present = False
        self.ended_with = 0
        self.taken_over = False

    async def reach(self) -> None:
        """Connect within CONNECT_WITHIN, or raise MqttError with the reason in `failure`."""
        self.failure = TimeoutError()
        self._disconnected.add_done_callback(self._ended)
        task = asyncio.ensure_future(self._come_in())
        reached = False
        try:
            await asyncio.wait([task], timeout=CONNECT_WITHIN)
            if not task.done():
                raise aiomqtt.MqttError("no connection in time")
            task.result()
            self._disconnected.add_done_callback(self._ended)  # the library may have made a new one
            reached = True
        finally:
            if not reached:
                self._abandoned = True
                task.cancel()
                retrieved(task)
                self.drop("the connection came too late")

    async def _come_in(self) -> None:
        """Resolve, connect, let the library shake hands in its thread, wait for CONNACK."""
        try:
            await self.line.open()
        except (OSError, UnicodeError) as error:
            self.failure = error
            raise aiomqtt.MqttError(str(error)) from error
        self._way.spent(budget.connecting(tls=self._target.tls))
        await self.__aenter__()
        self.line.accepted()

    def send(self, topic: str, payload: bytes, qos: int, retain: bool, labels: Labels | None) -> asyncio.Future[int]:
        properties = _properties(labels) if labels and self._newest else None
        self._spend(len(topic) + len(payload) + 9 + (_packed_size(labels) if labels and properties else 1))
        info = self._client.publish(topic, payload, qos, retain, properties)
        if info.rc != MQTT_ERR_SUCCESS:
            raise UplinkError(self.lost.result() if self.lost.done() else f"The message was not sent: {info.rc!s}.")
        if qos:
            # The library writes from the loop's own callback, so the answer cannot be here before this line.
            return self._answers.expect(info.mid)
        return answered(SUCCESS)

    async def ask_for(self, filters: tuple[str, ...]) -> list[ReasonCode]:
        topics: Any = [(name, SubscribeOptions(qos=1) if self._newest else 1) for name in filters]
        result, mid = self._client.subscribe(topics)
        if result != MQTT_ERR_SUCCESS or mid is None:
            raise UplinkError(f"The broker cannot be asked for messages: {result!s}.")
        try:
            async with asyncio.timeout(CONNECT_WITHIN):
                codes: list[ReasonCode] = await self._answers.expect(mid)
        except TimeoutError:
            raise UplinkError("The broker did not answer a subscription in time.") from None
        return codes

    def acknowledge(self, message: Incoming) -> None:
        if message.qos:
            self._client.ack(message.mid, message.qos)

    def goodbye(self) -> None:
        if not self.lost.done():
            self._client.disconnect()

    def drop(self, why: str) -> None:
        """Close the socket now, without a goodbye."""
        self._client._sock_close()  # noqa: SLF001  the library has no public way
        self.line.cut()
        self._end(why)

    def _end(self, why: str) -> None:
        if self.lost.done():
            return
        self.lost.set_result(why)
        self.inbox.end(why)
        self._answers.fail(why)

    def _ended(self, future: asyncio.Future[None]) -> None:
        """The library's own sign of the end, also when reading has raised."""
        error = None if future.cancelled() else future.exception()
        self._end(trouble.ended(str(error) if error else ""))

    def _client_connect(self) -> None:
        """In a thread: read the secrets, shake hands, send CONNECT."""
        try:
            if self._target.tls:
                self._client.tls_set_context(tls_context(self._access))
            if self._access.username:
                self._client.username_pw_set(self._access.username, password(self._access.password_file))
            super()._client_connect()
        except (OSError, ValueError, UplinkError) as error:
            self.failure = self.failure if self._abandoned else error
            raise aiomqtt.MqttError(str(error)) from error
        finally:
            if self._abandoned:
                with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                    self._loop.call_soon_threadsafe(self.drop, "the connection came too late")

    async def _misc_loop(self) -> None:
        """Keep alive. The library's own would notice a dead broker only after twice the time."""
        client = self._client
        pulse = Pulse(float(self._keepalive))
        while self.socket:
            heard, said = client._last_bytes_received, client._last_msg_out  # noqa: SLF001  no public way
            verdict = pulse.look(self._loop.time(), heard=heard, said=said, unsent=self.unsent())
            if verdict == PING:
                client._send_pingreq()  # noqa: SLF001  ditto
                self._spend(2)
            elif verdict == DEAD:
                self.drop(trouble.SILENT)
            await asyncio.sleep(pulse.tick)

    @property
    def socket(self) -> Any:
        """The open socket; None when there is none."""
        return self._client.socket()

    def unsent(self) -> int:
        held = sum(packet["to_process"] for packet in self._client._out_packet)  # noqa: SLF001  no public way
        return held + (unsent(self.socket) if self.socket else 0)

    def _spend(self, size: int) -> None:
        self._way.spent(budget.on_wire(size, tls=self._target.tls))

    def _on_socket_open(self, client: Any, userdata: Any, sock: Any) -> None:
        if self._abandoned:  # still in the thread: nobody waits for this connection any more
            raise ConnectionAbortedError
        super()._on_socket_open(client, userdata, sock)

    def _on_socket_register_write(self, client: Any, userdata: Any, sock: Any) -> None:  # noqa: ARG002  ditto
        """As the library does it, except that a socket that was closed meanwhile is left alone."""

        def write() -> None:
            try:
                client.loop_write()
            except (OSError, ValueError) as error:
                self.drop(trouble.ended(str(error)))

        def watch() -> None:
            if client.socket() is sock and sock.fileno() >= 0:
                self._loop.add_writer(sock.fileno(), write)

        self._loop.call_soon_threadsafe(watch)

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None) -> None:
        self.session_present = bool(flags.session_present)
        self.granted = properties
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None) -> None:
        if not self._connected.done():  # the library would wait for the whole time-out
            self.failure = ConnectionResetError()
            self._connected.set_exception(aiomqtt.MqttError("the connection ended before it was accepted"))
            self._connected.exception()  # seen, should nobody wait for it any more
        self.ended_with = _code(reason_code)
        said = flags.is_disconnect_packet_from_server
        self.taken_over |= said and self.ended_with == 0x8E
        self._end(trouble.ended(str(reason_code) if said else ""))
        super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason_code: Any, properties: Any) -> None:  # noqa: ARG002  the library's signature
        self._answered(mid, _code(reason_code))

    def _on_subscribe(self, client: Any, userdata: Any, mid: int, reason_codes: Any, properties: Any = None) -> None:  # noqa: ARG002  the library's signature
        self._answered(mid, reason_codes)

    def _answered(self, mid: int, answer: Any) -> None:
        if self._answers.answer(mid, answer):
            self._spend(4)

    def _on_message(self, client: Any, userdata: Any, message: Any) -> None:  # noqa: ARG002  the library's signature
        self._spend(len(message.payload) + 40)
        try:
            arrived = Incoming(message.topic, bytes(message.payload), bool(message.retain), message.qos, message.mid)
        except UnicodeDecodeError:  # a topic that is not UTF-8 is none of ours
            self.inbox.discarded += 1
            arrived = None
        if arrived is None or not self.inbox.put(arrived):
            client.ack(message.mid, message.qos)


def _code(reason: Any) -> int:
    return int(getattr(reason, "value", reason))


@lru_cache(maxsize=64)
def _properties(labels: Labels) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # the library's
    properties.ContentType = labels.content_type
    for pair in labels.user:
        properties.UserProperty = pair
    return properties


@lru_cache(maxsize=64)
def _packed_size(labels: Labels) -> int:
    return len(_properties(labels).pack())  # type: ignore[no-untyped-call]  # the library's


def _connect_properties(expiry: int) -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # the library's
    properties.SessionExpiryInterval = expiry
    properties.ReceiveMaximum = _UNANSWERED
    properties.MaximumPacketSize = _MAX_INCOMING
    return properties
