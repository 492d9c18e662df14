"""`shoplens model …`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serve_app.cli.options import ConfigOption, DataDirOption, console
from serve_app.config import load_config

app = typer.Typer(
    help="Models of the embedder: registered, compared, taken into service and back.", no_args_is_help=True
)

ModelArgument = Annotated[
    str, typer.Argument(help="Fingerprint or name of a registered model; `starter`: the release's.")
]
GalleryOption = Annotated[
    Path | None, typer.Option(help="What the gate searches: a manifest, or FOLDER/PRODUCT_ID/*.jpg.")
]
QueriesOption = Annotated[
    list[Path] | None,
    typer.Option("--queries", help="Photos with their right `product_id`: a manifest or folder. May come again."),
]
ViewsOption = Annotated[
    bool, typer.Option("--leave-one-view-out", help="Search with each image of a product that has several.")
]
LossOption = Annotated[float, typer.Option(help="A loss of more than this has to be ruled out.", min=0.001, max=0.5)]
MetricOption = Annotated[str, typer.Option(help="R@1, R@5, R@10, mAP@10 or nDCG@10, in the main list.")]
UrlOption = Annotated[str, typer.Option(help="The live service (with SHOPLENS_KEY).")]
CanaryOption = Annotated[
    Path, typer.Option(help="Photos with their right `product_id` that the service is asked every minute.")
]
RollOutOption = Annotated[
    str | None,
    typer.Option(
        help="Command that rolls a model out, {model} being its fingerprint; default: you are asked to do it."
    ),
]
ShadowOption = Annotated[
    str | None,
    typer.Option(
        help="Command that makes the service try a model, {model} being its fingerprint, and `null` when that is over; "
        "default: you are asked to do it."
    ),
]


@app.command(name="list")
def list_(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show registered models, the one that the settings name, and the last promotion."""
    from serve_app.cli.models import show_models

    show_models(load_config(config, data_dir=data_dir), console(), as_json=as_json)


@app.command()
def register(
    head: Annotated[
        Path, typer.Argument(help="The head that a training wrote (safetensors), or a network from elsewhere.")
    ],
    name: Annotated[str, typer.Option(help="What people call it.")],
    card: Annotated[Path, typer.Option(help="Model card: data, licences, method, figures, limits.")],
    evaluation: Annotated[Path | None, typer.Option(help="What `shoplens evaluate search --json` wrote of it.")] = None,
    calibration: Annotated[Path | None, typer.Option(help="What `shoplens evaluate search --fit` wrote of it.")] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Keep a model in the registry, under the fingerprint of all that decides its embeddings.

    An entry never changes.
    """
    from serve_app.cli.models import register as run

    run(load_config(config, data_dir=data_dir), head, name, card, evaluation, calibration, console())


@app.command()
def convert(
    weights: Annotated[
        Path, typer.Argument(help="State dict of torchvision's or timm's resnet50 (.pth, safetensors).")
    ],
    output: Annotated[Path, typer.Argument(help="File to write (safetensors).")],
) -> None:
    """Make a model of a ResNet-50 that was trained elsewhere, to be evaluated and registered.

    Its classifier `fc` has to give an embedding, 256 numbers. It gets what any embedder gets: squashed crops of
    224 × 224 pixels, scaled by ImageNet's mean and deviation; its last stage's average goes through `fc`.
    """
    from serve_app.cli.models import convert as run

    run(weights, output, console())


@app.command()
def compare(
    model: ModelArgument,
    gallery: Annotated[Path, typer.Argument(help="What is searched: a manifest, or FOLDER/PRODUCT_ID/*.jpg.")],
    against: Annotated[
        str | None, typer.Option(help="The model now, `imagenet` or `hsv`; default: that of the settings.")
    ] = None,
    queries: QueriesOption = None,
    leave_one_view_out: ViewsOption = False,
    max_loss: LossOption = 0.02,
    metric: MetricOption = "R@1",
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Compare a model with the one now, photo by photo, and say whether the gate of a promotion would let it pass.

    Prints the smallest loss that the photos can show. Exits with 3 where it finds less, or where that can't be told.
    """
    from serve_app.cli.models import Questions
    from serve_app.cli.models import compare as run

    asked = Questions(gallery, tuple(queries or ()), leave_one_view_out, max_loss, metric)
    run(load_config(config, data_dir=data_dir), model, against, asked, console())


@app.command()
def promote(
    model: ModelArgument,
    manifest: Annotated[Path, typer.Argument(help="The whole catalogue, to be embedded anew.")],
    url: UrlOption,
    canary: CanaryOption,
    gallery: GalleryOption = None,
    queries: QueriesOption = None,
    leave_one_view_out: ViewsOption = False,
    max_loss: LossOption = 0.02,
    metric: MetricOption = "R@1",
    shadow_searches: Annotated[
        int,
        typer.Option(
            help="Searches of shoppers that it repeats beside the model now before it is rolled out; 0: none.",
            min=0,
            max=100_000,
        ),
    ] = 0,
    shadow_minutes: Annotated[float, typer.Option(help="Minutes that they may take.", min=1)] = 60.0,
    shadow: ShadowOption = None,
    admin_url: Annotated[
        str | None, typer.Option(help="Where the service's /admin is reached; default: --url.")
    ] = None,
    roll_out: RollOutOption = None,
    rounds: Annotated[int, typer.Option(help="Minutes that it is watched, a round each.", min=1, max=10_000)] = 30,
    max_slowdown: Annotated[float, typer.Option(help="How many times slower it may be.", min=1)] = 2.0,
    address: Annotated[str | None, typer.Option(help="Address of a Ray cluster for the embedding.")] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Take a model into service: gate → backfill → its own alias → shadow → roll-out → watch, and back.

    Each step can be killed and run again by the same command. The old model's index stays as it was, and is written to.

        shoplens model promote spring photos.csv --url http://127.0.0.1:8000 --queries set.csv --canary canary.csv
    """
    from serve_app.cli.models import Questions
    from serve_app.cli.promoting import Options, Shadowing
    from serve_app.cli.promoting import promote as run

    asked = Questions(gallery or manifest, tuple(queries or ()), leave_one_view_out, max_loss, metric)
    shadowing = Shadowing(shadow_searches, shadow_minutes, shadow, admin_url)
    options = Options(url, canary, roll_out, manifest, asked, rounds, max_slowdown, address, shadowing)
    run(load_config(config, data_dir=data_dir), model, options, console())


@app.command()
def rollback(
    url: UrlOption,
    canary: CanaryOption,
    roll_out: RollOutOption = None,
    shadow: ShadowOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Bring back the model that answered before the last promotion, or end one that is under way."""
    from serve_app.cli.promoting import Options, Shadowing
    from serve_app.cli.promoting import rollback as run

    options = Options(url, canary, roll_out, shadowing=Shadowing(command=shadow))
    run(load_config(config, data_dir=data_dir), options, console())
