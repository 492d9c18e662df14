"""An import's stages on Ray Data: blocks of entries in, outcomes out, in bounded memory.

One task reads the manifest as a stream. Readers compare its images with the index and decode them, model workers embed
them, writers store them: three pools of actors, each of its own size. Ray Data holds a stage back while the next one
is busy.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from pydantic import SecretStr
from ray.data import ActorPoolStrategy, DataContext, Datasource
from ray.data.block import BlockMetadata
from ray.data.datasource import ReadTask
from ray.exceptions import RayError
from ray.util.annotations import RayDeprecationWarning
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from serve_app.catalogue.comparing import Event
from serve_app.catalogue.embedding import embed as embed_images
from serve_app.catalogue.embedding import load_models
from serve_app.catalogue.importer import Step
from serve_app.catalogue.manifest import Entry, Problem, read
from serve_app.catalogue.preparing import Preparer
from serve_app.catalogue.reading import ImageReader
from serve_app.catalogue.recording import Recorder
from serve_app.catalogue.report import Outcome, Status
from serve_app.config import Config, MilvusConfig
from serve_app.errors import ShoplensError, StageUnavailable
from serve_app.local_ray import start
from serve_app.milvus.client import connect
from serve_app.milvus.writer import MilvusWriter, TargetWriter, index_writer

log = logging.getLogger(__name__)

OBJECT_STORE_BYTES = 512 * 2**20
"""Room for some portions of photos (preparing.PIXEL_BYTES) on their way to the models."""
TASKS_PER_ACTOR = 2
"""One in work, one that waits."""
READER_CPUS = 0.0
"""Unlike a worker's share, or Ray Data would put the reader into a worker, and all work into one."""
WRITER_CPUS = 0.25
RESTARTS = 3
"""Of a worker on this machine, and then of all stages: one that is killed for its memory would be killed for ever.

A worker has to be started again by Ray: of one that ends while it has nothing to do, Ray Data 2.60 takes no notice,
and waits for it (actor_pool_map_operator.py, `_update_running_actor_state`).
"""

_CORE_LEVEL = "RAY_BACKEND_LOG_LEVEL"

# Rows of the pipeline. Arrow is to guess no types: entries and outcomes are JSON texts, images are pickled.
BLOCK = "block"
OUTCOMES = "outcomes"
IMAGES = "images"
SECONDS = "seconds"
FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Work:
    """Name what is to be imported: the entries of `first`, then those of the manifest after `settled` rows."""

    manifest: Path
    first: Sequence[Entry | Problem]
    settled: int


@dataclass(frozen=True, slots=True)
class Target:
    """Name where the rows go, and the event that they are of."""

    uri: str
    model: str
    event: Event
    collection: str | None = None
    """One that is being filled; None for the one that the model's searches use."""

    def writer(self, config: Config) -> MilvusWriter | TargetWriter:
        """Return a writer with a connection and the password of this process."""
        milvus = _with_secrets(config.milvus)
        return index_writer(connect(milvus, self.uri), milvus, config.catalogue, self.model, self.collection)


def embed(config: Config, work: Work, base: str, target: Target, *, address: str | None = None) -> Iterator[Step]:
    """Import with the models; yields outcomes as they become certain.

    Images are relative to `base`. Starts a Ray of its own unless `address` is given. The environment of
    `serve_app.ray_environment` has to be set before this module is imported. Raises MilvusUnavailable,
    DeadlineExceeded, BadWeights, BadConfig or StageUnavailable; every outcome that was yielded before counts.
    """
    done = _Rows()
    restarts = RESTARTS
    with _ray(config, address):
        while True:
            try:
                for step in _steps(config, work, base, target, done, restarts=-1 if address else RESTARTS):
                    yield step
                    done.add(outcome.row for outcome in step.outcomes)
                return
            except RayError as error:
                if address is not None or not restarts:
                    raise StageUnavailable(f"a worker of the import ended: {_first_line(error)}") from error
                restarts -= 1
                log.warning("a worker of the import ended; started anew", extra={"reason": _first_line(error)})


def _steps(config: Config, work: Work, base: str, target: Target, done: _Rows, *, restarts: int) -> Iterator[Step]:
    with warnings.catch_warnings():
        # Ray 2.60 has no other way to say what is deprecated here, and takes it away in 2.64.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        rows = _pipeline(config, work, base, target, done, restarts=restarts)
    for row in rows.iter_rows():
        if row[FAILURE]:
            raise _failure(row[FAILURE])
        yield Step(
            [Outcome(**each | {"status": Status(each["status"])}) for each in json.loads(row[OUTCOMES])],
            json.loads(row[SECONDS]),
        )


class _Rows:
    """A set of row numbers, of a bit each."""

    def __init__(self) -> None:
        self._bits = bytearray()

    def add(self, rows: Iterable[int]) -> None:
        for row in rows:
            self._bits.extend(bytes(max(0, row // 8 + 1 - len(self._bits))))
            self._bits[row // 8] |= 1 << row % 8

    def __contains__(self, row: int) -> bool:
        return row // 8 < len(self._bits) and bool(self._bits[row // 8] >> row % 8 & 1)


@contextmanager
def _ray(config: Config, address: str | None) -> Iterator[None]:
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        options |= {
            "num_cpus": config.importing.readers + config.importing.workers + config.importing.writers,
            "object_store_memory": OBJECT_STORE_BYTES,
            "include_dashboard": False,
        }
        with _core_kept_quiet():
            start(**options)
    else:
        try:
            ray.init(address=address, **options)
        except Exception as error:  # Ray's own errors at start are of no class below it
            raise StageUnavailable(f"Ray can't be reached: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _core_kept_quiet() -> Iterator[None]:
    """Let the part of Ray's core that lives in this process write nothing but its end to standard error.

    It writes there, past all loggers, as an error of each worker that may be started again, that its arguments are in
    the object store: they are this process's, and are there as long as it is. The level is read when Ray connects, and
    said on standard error too. Of this process alone: what os.putenv sets isn't passed on by subprocess.
    """
    if _CORE_LEVEL in os.environ:
        yield
        return
    os.putenv(_CORE_LEVEL, "fatal")
    sys.stderr.flush()
    stderr = os.dup(2)
    try:
        with tempfile.TemporaryFile() as written:
            os.dup2(written.fileno(), 2)
            try:
                yield
            finally:
                os.dup2(stderr, 2)
                written.seek(0)
                os.write(2, b"".join(line for line in written if _CORE_LEVEL.encode() not in line))
    finally:
        os.close(stderr)
        os.unsetenv(_CORE_LEVEL)


def _pipeline(config: Config, work: Work, base: str, target: Target, done: _Rows, *, restarts: int) -> ray.data.Dataset:
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # A row is a block: nothing is gathered into larger ones before it is passed on.
    context.target_max_block_size = 1
    options = config.importing
    config = _without_secrets(config)
    source = ray.data.read_datasource(
        _ManifestSource(work, done, options.block_rows),
        override_num_blocks=1,
        num_cpus=READER_CPUS,
        # The manifest lies on the driver's machine.
        ray_remote_args={
            "scheduling_strategy": NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        },
    )
    prepared = _stage(source, _Prepare, (config, base, target), options.readers, restarts)
    gpus = 0 if options.device == "cpu" else 1
    embedded = _stage(prepared, _Embed, (config, target.model), options.workers, restarts, num_gpus=gpus)
    return _stage(
        embedded,
        _Record,
        (config, target),
        options.writers,
        restarts,
        num_cpus=WRITER_CPUS,
        calls=options.writes_at_once,
    )


def _stage(
    rows: ray.data.Dataset,
    cls: type[_Stage],
    arguments: tuple[Any, ...],
    size: int,
    restarts: int,
    *,
    num_cpus: float = 1,
    num_gpus: float = 0,
    calls: int = 1,
) -> ray.data.Dataset:
    """Put rows through a pool of actors, each of which works on so many at once."""
    pool = ActorPoolStrategy(
        size=size,
        max_tasks_in_flight_per_actor=TASKS_PER_ACTOR * calls,
        max_concurrent_calls_per_actor=calls,
        enable_true_multi_threading=calls > 1,
    )
    staged: ray.data.Dataset = rows.map_batches(
        cls,
        fn_constructor_args=arguments,
        batch_size=1,
        compute=pool,
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        max_restarts=restarts,
    )
    return staged


class _ManifestSource(Datasource):
    """Read a manifest in one task that yields its blocks one by one."""

    def __init__(self, work: Work, done: _Rows, block_rows: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._work = work
        self._done = done
        self._block_rows = block_rows

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        work, done, block_rows = self._work, self._done, self._block_rows
        metadata = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(lambda: _blocks(work, done, block_rows), metadata)]


def _blocks(work: Work, done: _Rows, block_rows: int) -> Iterator[pa.Table]:
    left = chain(work.first, islice(read(work.manifest), work.settled, None))
    entries = (entry for entry in left if entry.row not in done)
    while block := list(islice(entries, block_rows)):
        yield pa.table({BLOCK: [json.dumps([_to_json(entry) for entry in block])]})


def _to_json(entry: Entry | Problem) -> list[Any]:
    return [type(entry).__name__, asdict(entry)]


def _of_json(kind: str, values: Mapping[str, Any]) -> Entry | Problem:
    return Problem(**values) if kind == Problem.__name__ else Entry(**values)


Row = dict[str, Any]


class _Stage:
    """Do a stage's part for each row; an error of ours is handed on as a row, whole and without a traceback."""

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, list[Any]]]:
        names = list(batch)
        for values in zip(*batch.values(), strict=True):
            row = dict(zip(names, values, strict=True))
            try:
                if row.get(FAILURE):
                    yield _one(row)
                    continue
                yield from map(_one, self._run(row))
            except ShoplensError as error:
                yield _one(_row(failure=pickle.dumps(error)))

    def _run(self, row: Row) -> Iterator[Row]:
        raise NotImplementedError


class _Prepare(_Stage):
    def __init__(self, config: Config, base: str, target: Target) -> None:
        reader = ImageReader(config, base, share=1 / config.importing.readers)
        self._preparer = Preparer(config, reader, target.writer(config), target.event, target.event.at_ms)

    def _run(self, row: Row) -> Iterator[Row]:
        for prepared in self._preparer.run([_of_json(*entry) for entry in json.loads(row[BLOCK])]):
            yield _row(prepared.outcomes, prepared.images, prepared.seconds)


class _Embed(_Stage):
    def __init__(self, config: Config, model: str) -> None:
        self._config = config
        self._models = load_models(config, model)

    def _run(self, row: Row) -> Iterator[Row]:
        if row[IMAGES]:
            images, seconds = embed_images(self._models, pickle.loads(row[IMAGES]), self._config)  # noqa: S301
            row = row | {IMAGES: pickle.dumps(images), SECONDS: json.dumps(json.loads(row[SECONDS]) | seconds)}
        yield row


class _Record(_Stage):
    def __init__(self, config: Config, target: Target) -> None:
        self._recorder = Recorder(target.writer(config))

    def _run(self, row: Row) -> Iterator[Row]:
        if row[IMAGES]:
            outcomes, seconds = self._recorder.record(pickle.loads(row[IMAGES]))  # noqa: S301 - of the stage before
            row = row | {
                OUTCOMES: json.dumps(json.loads(row[OUTCOMES]) + [asdict(outcome) for outcome in outcomes]),
                IMAGES: b"",
                SECONDS: json.dumps(json.loads(row[SECONDS]) | seconds),
            }
        yield row


def _row(
    outcomes: Sequence[Outcome] = (),
    images: Sequence[Any] = (),
    seconds: Mapping[str, float] | None = None,
    failure: bytes = b"",
) -> Row:
    return {
        OUTCOMES: json.dumps([asdict(outcome) for outcome in outcomes]),
        IMAGES: pickle.dumps(images) if images else b"",
        SECONDS: json.dumps(seconds or {}),
        FAILURE: failure,
    }


def _one(row: Row) -> dict[str, list[Any]]:
    return {name: [value] for name, value in row.items()}


def _failure(pickled: bytes) -> ShoplensError:
    error: ShoplensError = pickle.loads(pickled)  # noqa: S301 - from our own worker
    return error


def _without_secrets(config: Config) -> Config:
    return config.model_copy(update={"milvus": config.milvus.model_copy(update={"password": SecretStr("")})})


def _with_secrets(milvus: MilvusConfig) -> MilvusConfig:
    """Return the settings with the password of this process's environment."""
    return milvus.model_copy(update={"password": Config().milvus.password})


def _first_line(error: BaseException) -> str:
    with suppress(IndexError):
        return str(error).strip().splitlines()[0]
    return type(error).__name__
