"""The published description of the topics is the code's."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgpack

from gateway.uplink.asyncapi import SCHEMAS, TOPICS, as_yaml, document

FILE = Path(__file__).parents[2] / "config" / "asyncapi.yaml"


def test_the_file_is_what_the_code_generates() -> None:
    assert FILE.read_text(encoding="utf-8") == as_yaml(document()), (
        "run: python -m gateway.uplink.asyncapi > config/asyncapi.yaml"
    )


def test_every_reference_leads_somewhere() -> None:
    names = re.findall(r'#/components/schemas/(\w+)"', json.dumps(document()))
    assert set(names) <= set(SCHEMAS)
    assert {topic.schema for topic in TOPICS} <= set(names)


def test_yaml_quotes_what_needs_it() -> None:
    assert as_yaml({"a": [], "$b": "no: yes", "c": [{"d": {"e": [1, None, True]}}]}) == (
        'a: []\n"$b": "no: yes"\nc:\n  -\n    d:\n      e: [1, null, true]\n'
    )


async def test_what_the_agent_sends_fits_its_description(
    mosquitto: Any, rig: Any, ioc: Any, until: Any, oracle: Any
) -> None:
    broker = mosquitto()
    gateway = rig(broker.url)
    await gateway.start()
    await gateway.read()
    await until(lambda: gateway.publisher.counters.unheard, "an event about nobody listening")
    listener = await ioc(broker.url)
    kinds = {topic.name for topic in TOPICS if topic.address.startswith("up/")} - {"command", "health"}
    await until(lambda: all(listener.of(kind) for kind in kinds), "every kind")
    schemas = {topic.address.split("/")[1]: SCHEMAS[topic.schema] for topic in TOPICS}
    for kind in kinds:
        message = listener.of(kind)[0]
        body = json.loads(message.payload) if message.payload[:1] == b"{" else msgpack.unpackb(message.payload)
        schema = schemas[kind]
        assert set(schema["required"]) <= body.keys() <= schema["properties"].keys(), kind
