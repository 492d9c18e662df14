"""The work of `shoplens model promote` and `rollback`: the steps of a promotion, done in this world."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
from rich.console import Console

from serve_app.cli import lifecycle
from serve_app.cli.models import Questions, compared, fingerprint_of, head_file, with_model
from serve_app.config import Config
from serve_app.errors import BadConfig, BadInput, Unavailable
from serve_app.evaluation.photos import Photos
from serve_app.evaluation.questions import read_labelled
from serve_app.promotion.canary import TIMEOUT_S, Canary, Labelled
from serve_app.promotion.gate import Gate
from serve_app.promotion.record import Promotion, Records
from serve_app.promotion.shadowed import Shadowed, ShadowReader
from serve_app.promotion.steps import Patience, Promoter
from serve_app.promotion.watch import Limits, Round
from serve_app.weights.chosen import registry_of
from serve_app.weights.loader import embedder_files, fingerprint

MOST_PHOTOS = 500
"""Of a canary set: asked every minute, they are to leave the service to its shoppers."""


@dataclass(frozen=True, slots=True)
class Shadowing:
    """Say how many searches the new model repeats beside the old one, how that is begun, and where it is told of."""

    searches: int = 0
    minutes: float = 60.0
    command: str | None = None
    admin_url: str | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """Hold what a promotion was asked for; a rollback asks for less."""

    url: str
    canary: Path
    roll_out: str | None
    manifest: Path | None = None
    asked: Questions | None = None
    rounds: int = 30
    max_slowdown: float = 2.0
    address: str | None = None
    shadowing: Shadowing = Shadowing()


def promote(config: Config, named: str, options: Options, console: Console) -> None:
    """Take a model into service; raises GateClosed, RolledBack, Unavailable, and what the steps raise."""
    after = fingerprint_of(config, named)
    records = Records(registry_of(config).folder, config.catalogue)
    with _canary(config, options) as canary:
        promotion = records.begin(_before(records, canary), after, datetime.now(UTC))
        work = LiveWork(config, promotion, options, canary, console)
        done = _promoter(config, records, work, options, console).run(promotion)
    console.print(f"{done.after} stays. Back: shoplens model rollback --url {options.url} --canary {options.canary}")


def rollback(config: Config, options: Options, console: Console) -> None:
    """Bring the model of before back."""
    records = Records(registry_of(config).folder, config.catalogue)
    last = records.last()
    if last is None:
        raise BadConfig("no model was promoted, so there is none to go back to")
    with _canary(config, options) as canary:
        work = LiveWork(config, last, options, canary, console)
        ended = _promoter(config, records, work, options, console).roll_back(last, "asked for")
    console.print(f"{ended.before} answers. {ended.reason}", markup=False)


def _before(records: Records, canary: Canary) -> str:
    """Return the model that is to be replaced: that of the promotion under way, else the one that answers."""
    last = records.last()
    if last is not None and last.step.is_under_way:
        return last.before
    answering = canary.model()
    if answering is None:
        raise Unavailable("the service does not answer a search; a model is promoted in a service that works")
    return answering


def _promoter(config: Config, records: Records, work: LiveWork, options: Options, console: Console) -> Promoter:
    max_loss = options.asked.max_loss if options.asked else Limits().max_loss
    shadowing = options.shadowing
    limits = Limits(
        rounds=options.rounds,
        max_loss=max_loss,
        max_slowdown=options.max_slowdown,
        shadow_searches=shadowing.searches,
    )
    patience = Patience(shadow_s=60 * shadowing.minutes)
    return Promoter(records, work, limits, patience, tell=lambda text: console.print(text, markup=False))


@contextmanager
def _canary(config: Config, options: Options) -> Iterator[Canary]:
    photos = labelled(config, options.canary)
    with _client(options.url) as client:
        yield Canary(photos, client)


def _client(url: str) -> httpx.Client:
    key = os.environ.get("SHOPLENS_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S)


def labelled(config: Config, path: Path) -> list[Labelled]:
    """Read a canary set; raises BadManifest, and BadInput where a photo can't be read or there are too many."""
    questions = read_labelled(path)
    if len(questions) > MOST_PHOTOS:
        raise BadInput(f"{path} has {len(questions):,} photos; {MOST_PHOTOS} a minute are the most")
    with Photos(config) as photos:
        return [Labelled(photos.photo(each), each.right) for each in questions]


class LiveWork:
    """Do the steps with the evaluation's models, Milvus, the operator's command and a service at a URL."""

    def __init__(
        self, config: Config, promotion: Promotion, options: Options, canary: Canary, console: Console
    ) -> None:
        self._config = config
        self._promotion = promotion
        self._options = options
        self._canary = canary
        self._console = console
        self._shadow: ShadowReader | None = None
        self.canary_sha256 = canary.sha256

    def gate(self) -> Gate:
        asked = self._options.asked
        assert asked is not None  # a rollback has no gate
        before, after = (str(head_file(self._config, each)) for each in (self._promotion.before, self._promotion.after))
        return compared(self._config, before, after, asked, self._console)

    def fill(self, after: str) -> str:
        manifest = self._options.manifest
        assert manifest is not None
        config = with_model(self._config, after)
        return lifecycle.fill(config, manifest, self._console, address=self._options.address)

    def shadow(self, model: str | None) -> None:
        command = self._options.shadowing.command
        if command is not None:
            self._run(command, model or "null")
        elif model is not None:
            self._console.print(f"Now set `shadow.model: {model}` in the service; it is waited for.", markup=False)
        else:
            self._console.print("Its shadow is over: take `shadow.model` out of the service's settings.", markup=False)

    def shadowed(self, model: str) -> Shadowed:
        if self._shadow is None:
            self._shadow = ShadowReader(_client(self._options.shadowing.admin_url or self._options.url))
        return self._shadow.read(model)

    def roll_out(self, model: str) -> None:
        if self._options.roll_out is None:
            how = "embedder: {head: null, model: null}" if _is_own(model) else f"embedder.model: {model}"
            self._console.print(f"Now roll the service out with `{how}`; it is waited for.", markup=False)
            return
        self._run(self._options.roll_out, model)

    def _run(self, text: str, model: str) -> None:
        command = [part.replace("{model}", model) for part in shlex.split(text)]
        self._console.print(f"$ {shlex.join(command)}", markup=False)
        ended = subprocess.run(command, check=False)  # noqa: S603 - the operator's own command
        if ended.returncode:
            raise Unavailable(f"{command[0]} ended with {ended.returncode}; mend it and run the same command again")

    def model(self) -> str | None:
        return self._canary.model()

    def canary(self, model: str, at_s: float) -> Round:
        return self._canary.round(model, at_s)


def _is_own(model: str) -> bool:
    return model == fingerprint(embedder_files())
