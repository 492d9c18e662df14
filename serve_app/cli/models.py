"""The work of `shoplens model list`, `register` and `compare`, with its output for people."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Column, Table

from serve_app.cli.evaluating import Options as Evaluation
from serve_app.cli.evaluating import compare_models
from serve_app.config import Config
from serve_app.errors import BadConfig, BadInput, GateClosed
from serve_app.evaluation.models import HSV, IMAGENET
from serve_app.promotion.gate import Demand, Gate, Verdict, enough, judge
from serve_app.promotion.record import Promotion, Records
from serve_app.weights.chosen import detector_sha256, head_of, model_of, registry_of
from serve_app.weights.loader import (
    ONNX,
    ONNX_SUFFIX,
    EmbedderFiles,
    architecture_in,
    digest,
    embedder_files,
    fingerprint,
)
from serve_app.weights.registry import (
    CALIBRATION,
    CARD,
    EVALUATION,
    HEAD,
    NETWORK_ONNX,
    Preprocessing,
    check_calibration,
    check_evaluation,
)

STARTER = "starter"


@dataclass(frozen=True, slots=True)
class Questions:
    """Say what two models are compared by."""

    gallery: Path
    queries: tuple[Path, ...]
    leave_one_view_out: bool
    max_loss: float
    metric: str


def show_models(config: Config, console: Console, *, as_json: bool) -> None:
    """Print all entries."""
    registry = registry_of(config)
    entries, running = registry.entries(), model_of(config)
    last = Records(registry.folder, config.catalogue).last()
    if as_json:
        said = {
            "model": running,
            "models": [each.model_dump() for each in entries],
            "promotion": last.model_dump(mode="json") if last else None,
        }
        console.print_json(json.dumps(said))
        return
    table = Table(Column("model", no_wrap=True), "name", "registered (UTC)", "evaluation", "calibration", "", box=None)
    for each in entries:
        has = ("yes" if name in each.files else "no" for name in (EVALUATION, CALIBRATION))
        named = "in the settings" if each.fingerprint == running else ""
        table.add_row(each.fingerprint, each.name, each.registered[:19], *has, named)
    own = fingerprint()
    if own not in {each.fingerprint for each in entries}:
        table.add_row(own, STARTER, "with this release", "no", "no", "in the settings" if own == running else "")
    console.print(table)
    if last is not None:
        console.print(_promotion(last), markup=False)


def _promotion(last: Promotion) -> str:
    reason = f": {last.reason}" if last.reason else ""
    return f"Promotion of {last.after} in place of {last.before}, begun {last.began}: {last.step}{reason}"


def register(
    config: Config,
    head: Path,
    name: str,
    card: Path,
    evaluation: Path | None,
    calibration: Path | None,
    console: Console,
) -> None:
    """Add an entry, once the model is known to load and the rest to be of it.

    `head` is a head on this release's backbone, a network that was converted, or one from elsewhere.
    """
    with TemporaryDirectory() as work:
        own = _own(head, Path(work))
        files = embedder_files(own)
        model = fingerprint(files)
        _check_model(files)
        made_by = Preprocessing(architecture=files.architecture, backbone_sha256=digest(files.backbone))
        given = {CARD: _bytes(card), NETWORK_ONNX if files.architecture == ONNX else HEAD: _bytes(own)}
    if evaluation is not None:
        given[EVALUATION] = _bytes(evaluation)
        check_evaluation(given[EVALUATION], model)
    if calibration is not None:
        given[CALIBRATION] = _bytes(calibration)
        check_calibration(given[CALIBRATION], model)
    if name == STARTER and model != fingerprint():
        raise BadConfig(f"{STARTER} is the release's own model; choose another name")
    now, detector = datetime.now(UTC).isoformat(timespec="seconds"), detector_sha256(config)
    entry, is_new = registry_of(config).add(model, name, now, given, detector, made_by)
    console.print(f"{entry.fingerprint} is {'' if is_new else 'already '}registered as {entry.name}.", markup=False)
    if entry.detector_sha256 != detector:
        console.print(f"Its entry, which never changes, names another detector: sha256 {entry.detector_sha256[:12]}….")
    console.print(f"Next: shoplens model compare {entry.fingerprint} GALLERY --queries QUERIES")


def convert(weights: Path, output: Path, console: Console) -> None:
    """Write the network that weights from elsewhere make; raises BadWeights and BadInput."""
    from serve_app.conversion import to_network

    data = to_network(weights)
    try:
        output.write_bytes(data)
    except OSError as error:
        raise BadInput(f"{output} can't be written: {error.strerror}") from error
    model = fingerprint(embedder_files(output))
    console.print(f"{output} ({len(data) / 1e6:.0f} MB) is the model {model}.", markup=False, soft_wrap=True)
    console.print("Next: shoplens evaluate search CATALOGUE --queries QUERIES --model " + str(output), markup=False)


def _own(weights: Path, work: Path) -> Path:
    """Return a file that embedders are loaded from, made of weights from elsewhere where they are such."""
    if not weights.is_file() or weights.suffix == ONNX_SUFFIX or architecture_in(weights):
        return weights
    from serve_app.conversion import to_network

    network = work / "network.safetensors"
    network.write_bytes(to_network(weights))
    return network


def _check_model(files: EmbedderFiles) -> None:
    """Raise BadWeights unless a network can be made of these files."""
    if files.architecture == ONNX:
        from serve_app.runtimes.foreign import ForeignNetwork

        ForeignNetwork(files.head)
    else:
        from serve_app.backbone import FeatureNetwork

        FeatureNetwork(files)


def _bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} can't be read: {error.strerror}") from error
    if not data:
        raise BadInput(f"{path} is empty")
    return data


def fingerprint_of(config: Config, named: str) -> str:
    """Return the fingerprint of a model that somebody names; raises BadConfig."""
    return fingerprint() if named in (STARTER, fingerprint()) else registry_of(config).find(named).fingerprint


def with_model(config: Config, model: str) -> Config:
    """Return the settings with another embedder."""
    embedder = config.embedder.model_copy(update={"head": None, "model": model, "calibration": None})
    return config.model_copy(update={"embedder": embedder})


def head_file(config: Config, model: str) -> Path:
    """Return the file of a model's head, the release's own too."""
    return head_of(with_model(config, model)) or embedder_files().head


def compare(config: Config, named: str, against: str | None, asked: Questions, console: Console) -> None:
    """Compare two models; raises GateClosed where the first one may not take the other's place."""
    after = fingerprint_of(config, named)
    gate = compared(config, _against(config, against), str(head_file(config, after)), asked, console)
    if gate.verdict is not Verdict.PASSED:
        raise GateClosed(f"the gate is closed for {after}")
    console.print(f"The gate is open for {after}.")


def _against(config: Config, named: str | None) -> str:
    if named in (IMAGENET, HSV):
        return str(named)
    head = head_of(config) or embedder_files().head
    return str(head if named is None else head_file(config, fingerprint_of(config, named)))


def compared(config: Config, before: str, after: str, asked: Questions, console: Console) -> Gate:
    """Let two models, named as an evaluation names them, answer the same photos; show how they differ, and judge it."""
    if before == after:
        raise BadConfig("this is one model; name another one to compare it with")
    options = Evaluation(
        catalogue=asked.gallery,
        queries=asked.queries,
        leave_one_view_out=asked.leave_one_view_out,
        model=before,
        against=after,
    )
    outcome = compare_models(config, options, console)
    gate = judge(outcome.compared, Demand(asked.max_loss, asked.metric))
    show_gate(gate, console)
    return gate


def show_gate(gate: Gate, console: Console) -> None:
    """Print each line with the smallest loss that it can show, and what follows."""
    table = Table(
        "photos", "figure", Column("products", justify="right"), "difference", "95 %", "smallest loss seen", "",
        box=None,
    )  # fmt: skip
    for line in gate.lines:
        between = f"{line.low:+.3f} … {line.high:+.3f}"
        row = (f"{line.draws:,}", f"{line.value:+.3f}", between, f"{line.smallest:.3f}", line.verdict.value)
        table.add_row(line.line, line.metric, *row)
    console.print(table)
    for line in gate.lines:
        if line.verdict is Verdict.TOO_SMALL:
            console.print(
                f"{line.line}: a loss of {gate.max_loss:g} would go unseen; that takes about "
                f"{enough(line, gate.max_loss):,} products, {line.draws:,} are there. Give more photos, or say that a "
                f"loss of {line.smallest:.2g} is no harm (--max-loss).",
                markup=False,
            )
