"""`shoplens evaluate …`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serve_app.cli.options import ConfigOption, DataDirOption, console
from serve_app.config import load_config

app = typer.Typer(help="How well products are found, and which of two models finds more.", no_args_is_help=True)

CatalogueArgument = Annotated[Path, typer.Argument(help="What is searched: a manifest, or FOLDER/PRODUCT_ID/*.jpg.")]
QueriesOption = Annotated[
    list[Path] | None,
    typer.Option("--queries", help="Photos with their right `product_id`: a manifest or folder. May come again."),
]
FirstViewsOption = Annotated[
    bool, typer.Option("--first-views", help="Search each product's first image alone, with its other images.")
]
SampleOption = Annotated[int | None, typer.Option(help="Ask only so many of the photos.", min=1)]
ReportOption = Annotated[Path | None, typer.Option(help="Write a page for people, one HTML file.")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write the figures.")]


@app.command()
def search(
    catalogue: CatalogueArgument,
    queries: QueriesOption = None,
    leave_one_view_out: Annotated[
        bool,
        typer.Option(
            "--leave-one-view-out", help="Search with each image of a product that has several, for the others."
        ),
    ] = False,
    first_views: FirstViewsOption = False,
    hard: Annotated[
        bool, typer.Option("--hard", help="Ask each photo again cut, blurred, badly exposed, and badly compressed.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="File of a head, `imagenet` or `hsv`; default: the settings' embedder.")
    ] = None,
    against: Annotated[str | None, typer.Option(help="Another model, compared with the first one.")] = None,
    url: Annotated[
        str | None, typer.Option(help="Ask this service (with SHOPLENS_KEY), whose index holds the catalogue alone.")
    ] = None,
    sample: SampleOption = None,
    report: ReportOption = None,
    json_file: JsonOption = None,
    fit: Annotated[
        Path | None, typer.Option(help="Fit the curve for `match` on the lists, check it, write it.")
    ] = None,
    curve: Annotated[Path | None, typer.Option(help="Check this curve, fitted elsewhere, on the lists.")] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Search with photos whose products are known, and count what is found.

    By the real models and rules in this process, with an exact search over the catalogue in memory, or end to end by
    `--url`. What models say is kept in DATA_DIR/evaluation, so that a second run takes seconds.

        shoplens evaluate search photos/ --leave-one-view-out --report report.html
    """
    from serve_app.cli.evaluating import Options, evaluate_search

    options = Options(
        catalogue=catalogue,
        queries=tuple(queries or ()),
        leave_one_view_out=leave_one_view_out,
        first_views=first_views,
        hard=hard,
        model=model,
        against=against,
        url=url,
        sample=sample,
        report=report,
        json=json_file,
        fit=fit,
        curve=curve,
    )
    evaluate_search(load_config(config, data_dir=data_dir), options, console())


@app.command()
def index(
    queries: Annotated[list[Path], typer.Argument(help="Photos with their right `product_id`: manifests or folders.")],
    sample: SampleOption = None,
    report: ReportOption = None,
    json_file: JsonOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Compare the index that searches use with exact search over the same rows."""
    from serve_app.cli.evaluating import evaluate_index

    settings = load_config(config, data_dir=data_dir)
    evaluate_index(settings, tuple(queries), sample, report, json_file, console())


@app.command()
def detector(
    boxes: Annotated[Path, typer.Argument(help="Photos with known boxes: YOLO's data.yaml, or a COCO JSON file.")],
    part: Annotated[str, typer.Option(help="Which part of a YOLO set: `train`, `val` or `test`.")] = "val",
    images: Annotated[Path | None, typer.Option(help="Folder of a COCO file's photos; default: its own.")] = None,
    classes: Annotated[
        Path | None, typer.Option(help="Class map, YAML lines `label: category`; `label:` alone leaves its boxes out.")
    ] = None,
    json_file: JsonOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Hold the settings' detector against known boxes: average precision, and recall as it is served.

    shoplens evaluate detector boxes/data.yaml
    """
    from serve_app.cli.evaluating import MEMORY_FILE
    from serve_app.cli.evaluating_detector import evaluate_detector

    settings = load_config(config, data_dir=data_dir)
    memory = settings.data_dir / MEMORY_FILE
    evaluate_detector(settings, boxes, part, images, classes, json_file, memory, console())


@app.command()
def split(
    catalogue: CatalogueArgument,
    folder: Annotated[Path, typer.Argument(help="Where gallery.csv and queries.csv are written.")],
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Write a gallery of each product's first image, to import, and its other images as queries.

    An evaluation by `--url` needs an index that holds no photo that is searched with:

        shoplens evaluate split photos/ set/
        shoplens import set/gallery.csv --data-dir data/ && shoplens serve --data-dir data/ &
        shoplens evaluate search set/gallery.csv --queries set/queries.csv --url http://127.0.0.1:8000
    """
    from serve_app.cli.evaluating import split as run

    run(load_config(config, data_dir=data_dir), catalogue, folder, console())


@app.command()
def scenes(
    catalogue: CatalogueArgument,
    folder: Annotated[Path, typer.Argument(help="Where the scenes and scenes.csv, a query set, are written.")],
    backgrounds: Annotated[Path, typer.Option(help="Folder of cluttered photos that show none of the products.")],
    number: Annotated[int, typer.Option(help="How many scenes.", min=1)] = 100,
    first_views: FirstViewsOption = False,
    seed: Annotated[int, typer.Option(help="Other seeds give other scenes.")] = 0,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Make scenes with known boxes: 2 to 5 products, cut out of images with a plain background, on cluttered photos."""
    from serve_app.cli.evaluating import make_scenes

    settings = load_config(config, data_dir=data_dir)
    make_scenes(settings, catalogue, folder, backgrounds, number, seed, console(), first_views=first_views)
