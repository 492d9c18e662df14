"""The import's models on Ray Data: blocks of entries in, outcomes out, in bounded memory.

One task reads the manifest as a stream; a pool of workers, each with the models and a connection of its own,
takes blocks from it. What waits between them is entries, never pixels, and Ray Data holds the reader back while
the workers are busy.
"""

from __future__ import annotations

import json
import logging
import pickle
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

from serve_app.catalogue.importer import Importer, load_models
from serve_app.catalogue.manifest import Entry, Problem, base_folder, read
from serve_app.catalogue.report import Outcome, Status
from serve_app.config import Config, MilvusConfig
from serve_app.errors import ShoplensError, StageUnavailable
from serve_app.milvus.client import connect
from serve_app.milvus.writer import index_writer

OBJECT_STORE_BYTES = 128 * 2**20
"""Entries and outcomes are texts; pixels stay inside their worker."""
BLOCKS_PER_WORKER = 2
"""One in work, one that waits."""
READER_CPUS = 0.5
"""Unlike a worker's share, or Ray Data would put the reader into a worker, and all work into one."""

# Rows of the pipeline. A row holds a whole block as one JSON text, so that Arrow guesses no types.
BLOCK = "block"
OUTCOMES = "outcomes"
FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Work:
    """Name what is to be imported: the entries of `first`, then those of the manifest after `after_row`."""

    manifest: Path
    first: Sequence[Entry]
    after_row: int


@dataclass(frozen=True, slots=True)
class Target:
    """Name where the rows go, and the time of the event that they are of."""

    uri: str
    model: str
    updated_at: int
    collection: str | None = None
    """One that is being filled; None for the one that the model's searches use."""


def embed(config: Config, work: Work, target: Target, *, address: str | None = None) -> Iterator[list[Outcome]]:
    """Import with the models; yields outcomes as they become certain.

    Starts a Ray of its own unless `address` is given. The environment of `serve_app.ray_environment` has to be set
    before this module is imported. Raises MilvusUnavailable, DeadlineExceeded, BadWeights, BadConfig or
    StageUnavailable; every outcome that was yielded before counts.
    """
    with _ray(config, address):
        try:
            for row in _pipeline(config, work, target, restarts=address is not None).iter_rows():
                if row[FAILURE]:
                    raise _failure(row[FAILURE])
                yield [Outcome(**values | {"status": Status(values["status"])}) for values in json.loads(row[OUTCOMES])]
        except RayError as error:
            raise StageUnavailable(f"a worker of the import ended: {_first_line(error)}") from error


@contextmanager
def _ray(config: Config, address: str | None) -> Iterator[None]:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        options |= {
            "num_cpus": config.importing.workers + 1,
            "object_store_memory": OBJECT_STORE_BYTES,
            "include_dashboard": False,
        }
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        ray.init(address=address or "local", **options)
    except Exception as error:  # Ray's own errors at start are of no class below it
        raise StageUnavailable(f"Ray can't be reached: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _pipeline(config: Config, work: Work, target: Target, *, restarts: bool) -> ray.data.Dataset:
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # A row is a block: nothing is gathered into larger ones before it is passed on.
    context.target_max_block_size = 1
    source = ray.data.read_datasource(
        _ManifestSource(work, config.importing.block_rows), override_num_blocks=1, num_cpus=READER_CPUS
    )
    # On one machine, a worker that died was killed for its memory, and would be again.
    remote = {} if restarts else {"max_restarts": 0}
    with warnings.catch_warnings():
        # Ray 2.60 has no other way to say max_restarts, and takes this one away in 2.64.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        rows: ray.data.Dataset = source.map_batches(
            _Worker,
            fn_constructor_args=(_without_secrets(config), base_folder(work.manifest), target),
            batch_size=1,
            compute=ActorPoolStrategy(size=config.importing.workers, max_tasks_in_flight_per_actor=BLOCKS_PER_WORKER),
            num_cpus=1,
            num_gpus=0 if config.importing.device == "cpu" else 1,
            **remote,
        )
    return rows


class _ManifestSource(Datasource):
    """Read a manifest in one task that yields its blocks one by one."""

    def __init__(self, work: Work, block_rows: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._work = work
        self._block_rows = block_rows

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        work, block_rows = self._work, self._block_rows
        metadata = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(lambda: _blocks(work, block_rows), metadata)]


def _blocks(work: Work, block_rows: int) -> Iterator[pa.Table]:
    rest = (entry for entry in read(work.manifest) if entry.row > work.after_row)
    entries = chain(work.first, rest)
    while block := list(islice(entries, block_rows)):
        yield pa.table({BLOCK: [json.dumps([_to_json(entry) for entry in block])]})


def _to_json(entry: Entry | Problem) -> list[Any]:
    return [type(entry).__name__, asdict(entry)]


def _of_json(kind: str, values: Mapping[str, Any]) -> Entry | Problem:
    return Problem(**values) if kind == Problem.__name__ else Entry(**values)


class _Worker:
    """Run an Importer in a process of its own; its errors are handed on as a row, whole and without a traceback."""

    def __init__(self, config: Config, base: Path, target: Target) -> None:
        self._failed = False
        milvus = _with_secrets(config.milvus)
        writer = index_writer(connect(milvus, target.uri), milvus, config.catalogue, target.model, target.collection)
        self._importer = Importer(
            config, base, writer, lambda: load_models(config, target.model), updated_at=target.updated_at
        )

    def __call__(self, batch: Mapping[str, Iterable[str]]) -> Iterator[dict[str, list[Any]]]:
        for text in batch[BLOCK]:
            if self._failed:
                return
            try:
                for outcomes in self._importer.run([_of_json(*entry) for entry in json.loads(text)]):
                    yield _row(outcomes=json.dumps([asdict(outcome) for outcome in outcomes]))
            except ShoplensError as error:
                self._failed = True
                yield _row(failure=pickle.dumps(error))


def _row(outcomes: str = "[]", failure: bytes = b"") -> dict[str, list[Any]]:
    return {OUTCOMES: [outcomes], FAILURE: [failure]}


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
