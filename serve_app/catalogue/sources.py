"""Where a feed's events come from: lines of a stream, or a topic of Kafka."""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Callable
from os import read
from typing import IO, TYPE_CHECKING

from serve_app.catalogue.events import Message
from serve_app.config import FeedConfig
from serve_app.errors import BadConfig, Unavailable

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, TopicPartition

log = logging.getLogger(__name__)

MAX_EVENT_BYTES = 2**20
READ_BYTES = 2**16
KAFKA_TIMEOUT_S = 15.0
TOO_LARGE = f"the event takes more than {MAX_EVENT_BYTES:,} bytes"

KAFKA_OPTIONS = {
    # A batch may fetch images and wait for Milvus; 5 minutes by default.
    "max.poll.interval.ms": "900000",
    # A feed that was killed holds its partitions for so long; 45 s by default.
    "session.timeout.ms": "10000",
    # Events wait in Kafka, not here; 64 MB by default.
    "queued.max.messages.kbytes": "16384",
}


class Lines:
    """Give the lines of a stream that is a file of the system, as standard input is.

    Nothing is remembered: what was read and not applied when a run ends has to be sent again.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._file = stream.fileno()
        self._waiting = bytearray()
        self._looked_at = 0
        self._row = 0
        self._is_skipping = False
        self._has_ended = False

    @property
    def is_over(self) -> bool:
        return self._has_ended and not self._waiting and not self._is_skipping

    def take(self, most: int, within_s: float) -> list[Message]:
        """Return up to `most` lines that aren't blank; one of more than MAX_EVENT_BYTES without its data."""
        deadline_s = time.monotonic() + within_s
        found: list[Message] = []
        while len(found) < most and not self.is_over:
            line = self._line()
            if line is None:
                left_s = deadline_s - time.monotonic()
                if left_s <= 0 or not self._read(left_s):
                    break
            elif self._is_skipping:
                self._is_skipping = False
                found.append(Message(self._row, b"", fault=TOO_LARGE))
            elif line.strip():
                found.append(Message(self._row, line))
        return found

    def acknowledge(self) -> None:
        """Do nothing: a stream doesn't come again."""

    def close(self) -> None:
        """Leave the stream to who opened it."""

    def _line(self) -> bytes | None:
        """Return the next line, what is left of one that is skipped; None until all of it is there."""
        end = self._waiting.find(b"\n", self._looked_at)
        if end < 0 and self._has_ended:
            end = len(self._waiting)
        if end < 0:
            if len(self._waiting) > MAX_EVENT_BYTES:
                self._is_skipping = True
                self._waiting.clear()
            self._looked_at = len(self._waiting)
            return None
        line = bytes(self._waiting[:end])
        del self._waiting[: end + 1]
        self._looked_at = 0
        self._row += 1
        self._is_skipping = self._is_skipping or len(line) > MAX_EVENT_BYTES
        return line

    def _read(self, within_s: float) -> bool:
        """Read what comes within some seconds; return whether anything came, the end included."""
        if not select.select([self._file], [], [], within_s)[0]:
            return False
        data = read(self._file, READ_BYTES)
        self._waiting += data
        self._has_ended = not data
        return True


class Topic:
    """Give the messages of a topic of Kafka; the group's offsets are committed when they are acknowledged.

    Where partitions go to another member of the group meanwhile, that one begins after what was committed, and what was
    applied here since is applied again there, which changes nothing.
    """

    is_over = False

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._done: dict[tuple[str, int], int] = {}

    def take(self, most: int, within_s: float) -> list[Message]:
        """Return up to `most` messages; raises BadConfig where Kafka refuses the topic or group, and Unavailable.

        While Kafka is away there are none: the client connects anew by itself.
        """
        from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, KafkaException

        found = []
        try:
            messages = self._consumer.consume(most, within_s)
        except KafkaException as error:
            raise _error(error.args[0]) from error
        for message in messages:
            if (failure := message.error()) is not None:
                _survive(failure)
                continue
            topic, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
            self._done[topic, partition] = offset + 1
            kind, at_ms = message.timestamp()
            data = message.value() or b""
            fault = TOO_LARGE if len(data) > MAX_EVENT_BYTES else "" if data else "the message is empty"
            time_ms = None if kind == TIMESTAMP_NOT_AVAILABLE else at_ms
            found.append(Message(offset, b"" if fault else bytes(data), time_ms, fault))
        return found

    def acknowledge(self) -> None:
        """Commit; what Kafka doesn't take now is committed with the next batch."""
        from confluent_kafka import KafkaException

        held = {(each.topic, each.partition) for each in self._consumer.assignment()}
        self._done = {place: offset for place, offset in self._done.items() if place in held}
        if not self._done:
            return
        try:
            taken = self._consumer.commit(offsets=self._offsets(), asynchronous=False)
        except KafkaException as error:
            log.warning("offsets were not committed", extra={"reason": str(error.args[0])})
            return
        for each in taken or []:
            if each.error is None:
                self._done.pop((each.topic, each.partition), None)
            else:
                log.warning("an offset was not committed", extra={"reason": str(each.error)})

    def close(self) -> None:
        """Leave the group, so that its other members take over at once."""
        self._consumer.close()

    def _offsets(self) -> list[TopicPartition]:
        from confluent_kafka import TopicPartition

        return [TopicPartition(topic, partition, offset) for (topic, partition), offset in self._done.items()]


def kafka(config: FeedConfig) -> Topic:
    """Join the group; raises BadConfig, also where there is no such topic, and Unavailable."""
    try:
        from confluent_kafka import Consumer, KafkaException
    except ImportError as error:
        raise BadConfig("a topic of Kafka needs confluent-kafka; install shoplens[feed]") from error
    if not config.kafka_servers or not config.topic:
        raise BadConfig("name the brokers and the topic in feed.kafka_servers and feed.topic")
    reasons: list[str] = []
    try:
        consumer = Consumer(_options(config, lambda error: _note(error, reasons)), logger=log)
    except (KafkaException, ValueError, TypeError) as error:
        raise BadConfig(f"feed.kafka_options are refused: {error}") from error
    try:
        topic = consumer.list_topics(config.topic, timeout=KAFKA_TIMEOUT_S).topics.get(config.topic)
        if topic is None or topic.error is not None:
            reason = "isn't there" if topic is None else f"can't be read: {topic.error.str()}"
            raise BadConfig(f"the topic {config.topic!r} of {config.kafka_servers} {reason}")
        consumer.subscribe([config.topic])
    except KafkaException as error:
        consumer.close()
        reason = reasons[-1] if reasons else str(error.args[0])
        raise Unavailable(f"Kafka at {config.kafka_servers} can't be reached: {reason}") from error
    except BadConfig:
        consumer.close()
        raise
    return Topic(consumer)


def _options(config: FeedConfig, note: Callable[[KafkaError], None]) -> dict[str, object]:
    options: dict[str, object] = {**KAFKA_OPTIONS, **config.kafka_options}
    if password := _password(config):
        options["sasl.password"] = password
    return options | {
        "bootstrap.servers": config.kafka_servers,
        "group.id": config.group,
        "enable.auto.commit": "false",
        "enable.auto.offset.store": "false",
        "auto.offset.reset": "earliest",
        "error_cb": note,
    }


def _password(config: FeedConfig) -> str:
    if config.kafka_password_file is None:
        return config.kafka_password.get_secret_value()
    try:
        return config.kafka_password_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"feed.kafka_password_file can't be read: {error}") from error


def _note(error: KafkaError, reasons: list[str]) -> None:
    """Keep the newest reason why Kafka is away."""
    reasons[:] = [error.str()]
    log.warning("Kafka is away", extra={"reason": error.str()})


def _survive(error: KafkaError) -> None:
    """Raise what won't pass; the rest does without us."""
    from confluent_kafka import KafkaError as Codes

    refused = {
        Codes.UNKNOWN_TOPIC_OR_PART,
        Codes.TOPIC_AUTHORIZATION_FAILED,
        Codes.GROUP_AUTHORIZATION_FAILED,
    }
    if error.code() in refused or error.fatal():
        raise _error(error)
    log.warning("Kafka has an error", extra={"reason": error.str()})


def _error(error: KafkaError) -> BadConfig | Unavailable:
    message = f"Kafka gives no events: {error.str()}"
    return Unavailable(message) if error.retriable() or error.fatal() else BadConfig(message)
