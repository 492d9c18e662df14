"""Feeds followed by `shoplens feed`, with real models, Milvus Lite and a Kafka broker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from scripts.kafka_broker import start_mock
from scripts.measuring import free_port, wait_until
from scripts.processes import Processes
from serve_app.collection import FIELDS, alias
from serve_app.config import load_config
from serve_app.milvus.client import connect
from serve_app.milvus.local import LocalMilvus
from serve_app.weights.loader import embedder_files, fingerprint

TIMEOUT_S = 300
TOPIC = "products"


@dataclass
class Shop:
    """An index of its own, whose server runs until the end of the module."""

    data_dir: Path
    uri: str

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "serve_app.cli", "feed", *arguments, "--data-dir", str(self.data_dir)]

    def feed(self, *events: dict[str, Any] | str) -> str:
        """Send events on standard input; return what is printed."""
        lines = "".join(each if isinstance(each, str) else json.dumps(each) + "\n" for each in events)
        done = subprocess.run(self.command("-"), input=lines, capture_output=True, text=True, timeout=TIMEOUT_S)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        return done.stdout

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return all rows of the index by key."""
        config = load_config(data_dir=self.data_dir)
        client = connect(config.milvus, self.uri)
        name = alias(config.catalogue, fingerprint(embedder_files(config.embedder.head)))
        fields = [field.name for field in FIELDS]
        found = client.query(name, filter='row_id != ""', output_fields=fields, limit=1000, consistency_level="Strong")
        client.close()
        assert len({row["row_id"] for row in found}) == len(found)
        return {row["row_id"]: row for row in found}

    def wholes(self) -> dict[str, dict[str, Any]]:
        return {row["image_id"]: row for row in self.rows().values() if row["view"] == "whole"}


@pytest.fixture
def shop(tmp_path, weights) -> Iterator[Shop]:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/yolo26n.pt").symlink_to(weights)
    with LocalMilvus(tmp_path) as uri:
        yield Shop(tmp_path, uri)


def upsert(photo: Path, at: int, **values: Any) -> dict[str, Any]:
    known = {"image": str(photo), "product_id": photo.parent.name, "image_id": photo.stem, "category": "Radios/Old"}
    return {"event": "upsert", "at": time_of(at), **known, **values}


def time_of(at: int) -> str:
    return f"2026-11-24T00:00:{at:02}Z"


def test_events_on_standard_input_are_applied(shop, radios, tmp_path):
    a, b, c = radios.images[:6:2]
    (tmp_path / "text.jpg").write_text("no image")
    said = shop.feed(
        upsert(a, 1, price="20", currency="EUR"),
        upsert(b, 1),
        "{not json\n",
        upsert(c, 1, image=str(tmp_path / "text.jpg")),
    )
    assert "4 events: 2 embedded, 2 refused (" in said
    assert "1 bad_event" in said
    assert "1 not_an_image" in said
    assert set(shop.wholes()) == {a.stem, b.stem}
    (path,) = shop.data_dir.glob("feeds/*/refused.jsonl")
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    assert {each["code"]: each["event"].get("text") for each in kept} == {
        "bad_event": "{not json",
        "not_an_image": None,
    }

    before = shop.rows()
    said = shop.feed(
        {"event": "update", "at": time_of(5), "image_id": a.stem, "price": "5", "currency": "EUR"},
        {"event": "update", "at": time_of(5), "image_id": a.stem, "category": "Garden/Sound"},
        upsert(a, 2, price="30", currency="EUR"),
        {"event": "delete", "at": time_of(6), "product_id": b.parent.name},
    )
    assert "embedded" not in said
    rows = shop.rows()
    assert {row["image_id"] for row in rows.values()} <= {a.stem, b.stem}
    assert {(row["price"], row["category_root"]) for row in rows.values() if row["image_id"] == a.stem} == {
        (500, "Garden")
    }
    for key, row in rows.items():
        assert row["vector"] == before[key]["vector"]


def test_mended_events_can_be_sent_again(shop, radios):
    a = radios.images[0]
    shop.feed(upsert(a, 1, price="cheap", currency="EUR"))
    (path,) = shop.data_dir.glob("feeds/*/refused.jsonl")
    event = json.loads(path.read_text())["event"]
    events = shop.data_dir / "events.jsonl"
    events.write_text(json.dumps(event | {"price": "1.50"}) + "\n")
    done = subprocess.run(shop.command(str(events)), capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    assert shop.wholes()[a.stem]["price"] == 150


@pytest.fixture
def broker(tmp_path) -> Iterator[str]:
    folder = tmp_path / "broker"
    folder.mkdir()
    processes = Processes(folder)
    try:
        yield start_mock(processes, folder)
    finally:
        processes.kill_all()


def test_a_topic_is_followed_and_survives_kill_9_before_its_events_are_acknowledged(shop, radios, broker):
    images = radios.images[:4]
    producer = Producer({"bootstrap.servers": broker})
    events = [upsert(image, 1, title=f"Radio {number}") for number, image in enumerate(images)]
    for image in images:
        events.append({"event": "update", "at": time_of(9), "image_id": image.stem, "in_stock": False})
    for event in events:
        producer.produce(TOPIC, json.dumps(event).encode(), key=event["image_id"].encode())
    producer.produce(TOPIC, b"no event")
    assert producer.flush(30) == 0

    settings = {"KAFKA_SERVERS": broker, "TOPIC": TOPIC, "BATCH_EVENTS": "3", "BATCH_S": "0.2"}
    environ = os.environ | {f"SHOPLENS_FEED__{name}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "tests.integration.killed_feed", str(shop.data_dir), "2"]
    # Two full batches: a part of one that time ended would have fewer events on a slow machine.
    patient = environ | {"SHOPLENS_FEED__BATCH_S": "60"}
    killed = subprocess.run(command, env=patient, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    assert 3 <= len(shop.wholes()) <= 4
    assert committed(broker) < len(events) + 1

    port = free_port()
    running = subprocess.Popen(shop.command("kafka", "--metrics-port", str(port)), env=environ, stdout=subprocess.PIPE)
    try:
        wait_until(lambda: committed(broker) == len(events) + 1, timeout_s=TIMEOUT_S, what="all events")
        metrics = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    finally:
        running.terminate()
        running.communicate(timeout=60)
    assert running.returncode == 0
    # Of either process, or of both: the partitions come in no certain order, and what was not acknowledged comes again.
    refused = [line for path in shop.data_dir.glob("feeds/*/refused.jsonl") for line in path.read_text().splitlines()]
    assert {json.loads(line)["code"] for line in refused} == {"bad_event"}
    assert 'shoplens_feed_events_total{status="updated"}' in metrics
    assert "shoplens_feed_lag_seconds" in metrics
    wholes = shop.wholes()
    assert {image_id: row["in_stock"] for image_id, row in wholes.items()} == {image.stem: False for image in images}
    assert {row["data"]["title"] for row in wholes.values()} == {f"Radio {number}" for number in range(4)}


def committed(broker: str) -> int:
    """Return how many messages of the topic the group has acknowledged."""
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "shoplens"})
    try:
        partitions = consumer.list_topics(TOPIC, timeout=10).topics[TOPIC].partitions
        found = consumer.committed([TopicPartition(TOPIC, number) for number in partitions], timeout=10)
        return sum(max(0, each.offset) for each in found)
    finally:
        consumer.close()
