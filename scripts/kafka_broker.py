"""A Kafka broker on this machine: librdkafka's mock, or Apache Kafka.

The mock (PyPI package `confluent-kafka`) starts in a moment; it keeps about 5 MB a partition, in memory, so it
can't be started again on what it held. Apache Kafka needs `java`, and `mvn` to be fetched with.

`python -m scripts.kafka_broker FILE` runs the mock and writes its address to FILE.
"""

from __future__ import annotations

import argparse
import base64
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

from scripts.milvus_binary import cache_folder
from scripts.processes import CantStart, Processes, accepts

NAME = "broker"
KAFKA_VERSION = "3.9.1"
KAFKA_PORT = 30092
CONTROLLER_PORT = 30093
START_DEADLINE_S = 90.0
FETCH_DEADLINE_S = 600.0

JAVA_OPTIONS = [
    "-Xms256m",
    "-Xmx512m",
    # Made for a start in seconds, not for throughput.
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.BrokerLifecycleManager=info",
]

POM = f"""<?xml version="1.0" encoding="UTF-8"?>
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>shoplens</groupId>
  <artifactId>kafka</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""


def start_mock(processes: Processes, workdir: Path) -> str:
    """Start the mock and return its address; raises CantStart."""
    if importlib.util.find_spec("confluent_kafka") is None:
        raise CantStart("the package `confluent-kafka` is missing; install the project with its test dependencies")
    address = workdir / "broker.address"
    address.unlink(missing_ok=True)
    command = [sys.executable, "-m", "scripts.kafka_broker", str(address)]
    processes.start(NAME, command, environ=os.environ, cwd=Path(__file__).resolve().parent.parent)
    processes.wait_until_healthy(NAME, address.exists, START_DEADLINE_S)
    return address.read_text(encoding="utf-8")


def start_kafka(processes: Processes, workdir: Path) -> str:
    """Start Apache Kafka, on the log that it left before, and return its address; raises CantStart."""
    jars = _kafka_jars()
    if jars is None:
        raise CantStart("Apache Kafka isn't here; where there is a network, run: python -m scripts.servers fetch")
    folder = workdir / "kafka"
    settings = folder / "server.properties"
    _write_kafka_settings(settings, folder / "log")
    java = ["java", *JAVA_OPTIONS, "-cp", f"{jars}/*"]
    if not (folder / "log" / "meta.properties").exists():
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # With `=`: every 64th id begins with a dash.
        command = [*java, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", "-c", str(settings)]
        made = subprocess.run(command, capture_output=True, text=True, timeout=START_DEADLINE_S)
        if made.returncode:
            raise CantStart(f"Kafka could not make its log: {made.stdout}{made.stderr}")
    processes.start(NAME, [*java, "kafka.Kafka", settings], environ=os.environ, cwd=folder)
    processes.wait_until_healthy(NAME, lambda: accepts(KAFKA_PORT), START_DEADLINE_S)
    return f"127.0.0.1:{KAFKA_PORT}"


def kafka_is_here() -> bool:
    """Tell whether Apache Kafka was fetched and can be run."""
    return _kafka_jars() is not None and shutil.which("java") is not None


def fetch_kafka() -> None:
    """Fetch Apache Kafka from Maven Central (50 MB) into the user's cache folder; raises CantStart."""
    if _kafka_jars() is not None:
        return
    for program, package in (("java", "default-jre-headless"), ("mvn", "maven")):
        if shutil.which(program) is None:
            raise CantStart(f"the command `{program}` is missing; install the package {package}")
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_folder(), prefix="kafka-") as scratch:
        (Path(scratch) / "pom.xml").write_text(POM, encoding="utf-8")
        command = ["mvn", "--quiet", "--batch-mode", "dependency:copy-dependencies", "-DoutputDirectory=jars"]
        try:
            subprocess.run(command, cwd=scratch, check=True, timeout=FETCH_DEADLINE_S)
        except subprocess.SubprocessError as error:
            raise CantStart(f"Maven could not fetch Apache Kafka: {error}") from error
        (Path(scratch) / "jars").rename(_kafka_folder())


def _kafka_jars() -> Path | None:
    return _kafka_folder() if _kafka_folder().is_dir() else None


def _kafka_folder() -> Path:
    return cache_folder() / f"kafka-{KAFKA_VERSION}"


def _write_kafka_settings(path: Path, log: Path) -> None:
    """Write what makes one process broker and controller at once (KRaft)."""
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{CONTROLLER_PORT}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{KAFKA_PORT},CONTROLLER://127.0.0.1:{CONTROLLER_PORT}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{KAFKA_PORT}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": log,
        "num.partitions": 1,
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "message.max.bytes": 10 * 2**20,
        # A broker that was killed is taken back when its old session is over: 9 s by default.
        "broker.session.timeout.ms": 2_000,
        "broker.heartbeat.interval.ms": 500,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()), encoding="utf-8")


def main() -> None:
    """Run the mock until the process is ended."""
    from confluent_kafka import Producer

    parser = argparse.ArgumentParser(description="Run librdkafka's mock of a Kafka broker.")
    parser.add_argument("file", type=Path, help="where to write its address")
    arguments = parser.parse_args()
    # The mock lives in the client that asks for it: INTRODUCTION.md of librdkafka, "test.mock.num.brokers".
    client = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "127.0.0.1"})
    (broker,) = client.list_topics(timeout=10).brokers.values()
    fresh = arguments.file.with_suffix(".new")
    fresh.write_text(f"{broker.host}:{broker.port}", encoding="utf-8")
    fresh.rename(arguments.file)
    while True:
        client.poll(1)


if __name__ == "__main__":
    main()
