"""The ThingsBoard server's side, canned: answers getSessionLimits and attribute requests so that its gateway runs.

    python tb_server.py BROKER_PORT

Prints "ready" after subscribing. Ends when stdin closes.
"""

from __future__ import annotations

import json
import sys

import paho.mqtt.client as paho

LIMITS = {
    "maxPayloadSize": 65536,
    "maxInflightMessages": 1000,
    "rateLimits": {"messages": "", "telemetryMessages": "", "telemetryDataPoints": ""},
    "gatewayRateLimits": {"messages": "", "telemetryMessages": "", "telemetryDataPoints": ""},
}
RPC = "v1/devices/me/rpc/request/"
ATTRIBUTES = "v1/devices/me/attributes/request/"


def on_connect(client: paho.Client, *_: object) -> None:
    client.subscribe([(RPC + "+", 1), (ATTRIBUTES + "+", 1)])


def on_message(client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
    number = message.topic.rsplit("/", 1)[1]
    if message.topic.startswith(ATTRIBUTES):
        client.publish(f"v1/devices/me/attributes/response/{number}", "{}", qos=1)
    elif json.loads(message.payload).get("method") == "getSessionLimits":
        client.publish(f"v1/devices/me/rpc/response/{number}", json.dumps(LIMITS), qos=1)


def main() -> None:
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.on_connect, client.on_message = on_connect, on_message
    client.on_subscribe = lambda *_: print("ready", flush=True)
    client.reconnect_delay_set(1, 1)  # it must not keep a gateway waiting when the broker is back
    client.connect("127.0.0.1", int(sys.argv[1]))
    client.loop_start()
    sys.stdin.read()
    client.loop_stop()


if __name__ == "__main__":
    main()
