"""The command line: `shoplens …`.

Commands import what they need when they run: `shoplens --help` costs no torch and no Ray.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from serve_app import __version__
from serve_app.cli.cluster import app as cluster_app
from serve_app.cli.evaluate import app as evaluate_app
from serve_app.cli.index import app as index_app
from serve_app.cli.keys import app as keys_app
from serve_app.cli.model import app as model_app
from serve_app.cli.options import ConfigOption, DataDirOption, console
from serve_app.cli.rates import app as rates_app
from serve_app.config import at_address, load_config
from serve_app.errors import BadInput, BadManifest, SetupError, ShoplensError, TooManyProblems, TooMuchGone, Unavailable
from serve_app.weights.formats import Format

EXIT_BAD_INPUT = 2
EXIT_SETUP = 3
EXIT_UNAVAILABLE = 4

app = typer.Typer(
    name="shoplens",
    help="Search by image for shops: photo in, the most similar products of the catalogue out.",
    epilog="Exit codes: 0 done, 2 bad input, 3 a setting or file to mend, 4 something is away, 130 interrupted.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
weights_app = typer.Typer(help="The models' weights: what is there, and getting what is not.", no_args_is_help=True)
app.add_typer(index_app, name="index")
app.add_typer(keys_app, name="keys")
app.add_typer(rates_app, name="rates")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(weights_app, name="weights")
app.add_typer(model_app, name="model")
app.add_typer(cluster_app, name="cluster")


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.", is_eager=True)] = False,
) -> None:
    if version:
        console().print(__version__)
        raise typer.Exit


@app.command()
def serve(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; default 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; default 8000.", min=1, max=65535)] = None,
) -> None:
    """Serve searches over HTTP on this machine, until Ctrl-C.

    Starts Ray and, unless `milvus.uri` is set, a local Milvus Lite. Example:

        curl -F photo=@chair.jpg 'http://127.0.0.1:8000/v1/search?top_k=5'
    """
    from serve_app.cli.serve import serve as run

    run(at_address(load_config(config, data_dir=data_dir), host, port), console())


@app.command(name="import")
def import_(
    manifest: Annotated[
        str | None,
        typer.Argument(help="CSV, JSON lines, Parquet, Delta or Iceberg table, or a folder FOLDER/PRODUCT_ID/*.jpg."),
    ] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    feed: Annotated[str, typer.Option(help="Name under which these rows are kept apart from others'.")] = "",
    full: Annotated[bool, typer.Option("--full", help="Remove what the feed held and no longer names.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --full: however much that is.")] = False,
    retry_quarantine: Annotated[
        Path | None, typer.Option(help="Try the rows of this quarantine again, instead of a manifest.")
    ] = None,
    max_error_ratio: Annotated[
        float | None, typer.Option(help="End with an error if more of the rows is left out.", min=0, max=1)
    ] = None,
    metrics_port: Annotated[int | None, typer.Option(help="Serve Prometheus metrics here while it runs.")] = None,
    address: Annotated[str | None, typer.Option(help="Address of a Ray cluster; default: a Ray of its own.")] = None,
) -> None:
    """Bring a catalogue into the index; run again, it does only what changed.

    A manifest is a path or a URL (https, s3, gs). It has the columns `image` (path or URL) and `product_id`, and may
    have `image_id`, `parent_id`, `title`, `title_LANG`, `category`, `price`, `currency`, `in_stock`; other columns are
    kept as attributes. Rows that can't be used go into a quarantine with their reason, and the others are imported.
    """
    from serve_app.cli.importing import Options, import_catalogue

    settings = load_config(config, data_dir=data_dir)
    if max_error_ratio is not None:
        importing = settings.importing.model_copy(update={"max_error_ratio": max_error_ratio})
        settings = settings.model_copy(update={"importing": importing})
    options = Options(manifest, retry_quarantine, feed, full, yes, address, metrics_port=metrics_port)
    import_catalogue(settings, options, console())


@app.command(name="feed")
def feed_(
    source: Annotated[
        str, typer.Argument(help="`-` for JSON lines on standard input, a file of them, or `kafka` for `feed.topic`.")
    ],
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    base: Annotated[str | None, typer.Option(help="Folder or URL that images are relative to.")] = None,
    feed: Annotated[str, typer.Option(help="Name under which new rows are kept apart from others'.")] = "",
    metrics_port: Annotated[int | None, typer.Option(help="Serve Prometheus metrics here while it runs.")] = None,
) -> None:
    """Apply events to the index as they come, until SIGTERM or the end of the stream.

    An event is a JSON object: `event` is `upsert` (with the columns of a manifest), `update` (some of them, of a
    `product_id` or an `image_id`) or `delete`, and `at` its time. An older event never undoes a newer one.

        echo '{"event": "update", "product_id": "7", "in_stock": false}' | shoplens feed -
    """
    from serve_app.cli.feed import Options, follow_feed

    follow_feed(load_config(config, data_dir=data_dir), Options(source, base, feed, metrics_port), console())


@app.command(name="plan")
def plan_(
    images: Annotated[int, typer.Option(help="Images of the catalogue.", min=1)],
    config: ConfigOption = None,
    searches_per_second: Annotated[float, typer.Option(help="Searches a second at the peak.", min=0)] = 0.0,
    new_images_per_day: Annotated[int, typer.Option(help="Images that are new or changed.", min=0)] = 0,
    copies: Annotated[
        int | None, typer.Option(help="Copies of the index; default: milvus.replica_number.", min=1)
    ] = None,
    node_memory: Annotated[float, typer.Option(help="GiB that a query node may fill.", min=0.5)] = 32.0,
    utilisation: Annotated[float, typer.Option(help="Busy part of a model's time at the peak.", min=0.1, max=1)] = 0.7,
    cpu: Annotated[bool, typer.Option("--cpu", help="Models run on cores, not on GPUs.")] = False,
    gpu_images_per_second: Annotated[float | None, typer.Option(help="What one GPU imports.", min=0.1)] = None,
    gpu_searches_per_second: Annotated[float | None, typer.Option(help="What one GPU answers.", min=0.1)] = None,
    hour_price: Annotated[
        float | None, typer.Option(help="Price of an hour of a GPU, or with --cpu a core.", min=0)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a catalogue and its searches need, each number with its formula.

    Index, copies and views are those of the settings. No number is made up: what was not measured is shown as `?`, with
    the script that measures it.
    """
    from serve_app.capacity import Load
    from serve_app.cli.plan import show

    settings = load_config(config)
    load = Load(
        images=images,
        rows_per_image=1.0 if settings.importing.views == "whole" else 2.0,
        new_images_per_day=new_images_per_day,
        searches_per_s=searches_per_second,
        copies=copies or settings.milvus.replica_number,
        index_type="HNSW" if settings.milvus.index_type == "AUTO" else settings.milvus.index_type,
        hnsw_m=settings.milvus.hnsw_m,
        node_memory_gib=node_memory,
        utilisation=utilisation,
        gpus=not cpu,
        gpu_images_per_s=gpu_images_per_second,
        gpu_searches_per_s=gpu_searches_per_second,
        price=hour_price,
    )
    show(load, console(), as_json=as_json)


@app.command()
def search(
    photo: Annotated[Path, typer.Argument(help="JPEG, PNG, WebP, AVIF or HEIC.")],
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    top_k: Annotated[int, typer.Option(help="Products per list.", min=1, max=100)] = 10,
    min_score: Annotated[float | None, typer.Option(help="Leave products below out.", min=-1, max=1)] = None,
    min_match: Annotated[
        float | None, typer.Option(help="Leave less likely products out; needs a calibration curve.", min=0, max=1)
    ] = None,
    category: Annotated[list[str] | None, typer.Option(help="Only products of it or below; repeatable.")] = None,
    price_min: Annotated[str | None, typer.Option(help="Only products that cost at least this.")] = None,
    price_max: Annotated[str | None, typer.Option(help="Only products that cost at most this.")] = None,
    currency: Annotated[str | None, typer.Option(help="What prices are given and shown in, like EUR.")] = None,
    in_stock: Annotated[bool | None, typer.Option(help="Only products that are in stock, or are not.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as the HTTP interface gives it.")] = False,
) -> None:
    """Search with one photo, in this process: no service has to run.

    Loads the models anew each time, which takes seconds; `shoplens serve` answers in milliseconds.
    """
    from serve_app.api.parameters import read_parameters
    from serve_app.cli.search import search_photo
    from serve_app.market import make_markets

    settings = load_config(config, data_dir=data_dir)
    given = {
        "top_k": top_k,
        "min_score": min_score,
        "min_match": min_match,
        "category": category,
        "price_min": price_min,
        "price_max": price_max,
        "currency": currency,
        "in_stock": in_stock,
    }
    market = make_markets(settings).of(currency=currency)
    query = read_parameters({name: value for name, value in given.items() if value is not None}).query(market)
    search_photo(settings, photo, query, market, console(), as_json=as_json)


@weights_app.command()
def fetch(config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Get the detector's weights, from Ultralytics' release or from npm, and check their sha256."""
    from serve_app.cli.weights import fetch_weights

    fetch_weights(load_config(config, data_dir=data_dir), console())


@weights_app.command()
def show(config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Show which weights are used, whether they are whole, and the model's fingerprint."""
    from serve_app.cli.weights import show_weights

    show_weights(load_config(config, data_dir=data_dir), console())


@weights_app.command()
def export(
    kind: Annotated[Format, typer.Option("--format", help="What the phone's runtime takes.")],
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    output: Annotated[Path | None, typer.Option(help="Folder to put it in; default: DATA_DIR/phones.")] = None,
) -> None:
    """Make the detector for phones, which then send boxes or a crop instead of whole photos.

    Needs the extra `export`, best in an environment of its own. Example:

        shoplens weights export --format onnx
    """
    from serve_app.cli.weights import export_weights

    settings = load_config(config, data_dir=data_dir)
    export_weights(settings, kind, output or settings.data_dir / "phones", console())


@weights_app.command(name="compile")
def compile_(
    photos: Annotated[
        Path,
        typer.Option(
            help="Folder of photos, with all below it, that faster networks are compared on with PyTorch's: a few "
            "hundred of what shoppers send and of the catalogue.",
            exists=True,
            file_okay=False,
        ),
    ],
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    backend: Annotated[
        list[str] | None, typer.Option(help="openvino or onnxruntime; default: those that are installed.")
    ] = None,
    precision: Annotated[list[str] | None, typer.Option(help="fp32, bf16 or int8; default: fp32.")] = None,
    stage: Annotated[list[str] | None, typer.Option(help="detector or embedder; default: both.")] = None,
) -> None:
    """Make networks that this machine's CPU runs faster than PyTorch, once.

    Each is kept only if it finds the same boxes and embeddings as PyTorch on the photos. A service that starts
    afterwards uses them (`detector.backend`, `embedder.backend`). Needs the extra `openvino` or `onnxruntime`. Example:

        shoplens weights compile --photos photos/
    """
    from serve_app.cli.compiling import compile_weights

    compile_weights(load_config(config, data_dir=data_dir), photos, backend, precision, stage, console())


@weights_app.command()
def browser(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder to put it in; default: page.detector, else DATA_DIR/browser.")
    ] = None,
) -> None:
    """Make the detector for browsers, with which the page shows a photo's objects before the service answers.

    Fetches ONNX Runtime from npm, so it needs the extras `export` and `weights`.
    """
    from serve_app.cli.weights import prepare_browser

    settings = load_config(config, data_dir=data_dir)
    prepare_browser(settings, output or settings.browser_detector_folder, console())


def main() -> None:
    """Run the command line; errors of ours end in one line and an exit code, without a traceback."""
    try:
        app(standalone_mode=True)
    except ShoplensError as error:
        _say(error.message)
        sys.exit(exit_code(error))
    except ModuleNotFoundError as error:
        package = (error.name or "serve_app").partition(".")[0]
        if package == "serve_app":
            raise
        _say(f"this needs {package}, which is not installed; pip install 'shoplens[serve]' brings it")
        sys.exit(EXIT_SETUP)


def _say(message: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {message}", markup=False)


def exit_code(error: ShoplensError) -> int:
    """Return what a script can act on: the caller's input, the set-up, or something that is away."""
    if isinstance(error, (BadInput, BadManifest, TooManyProblems, TooMuchGone)):
        return EXIT_BAD_INPUT
    if isinstance(error, SetupError):
        return EXIT_SETUP
    return EXIT_UNAVAILABLE if isinstance(error, Unavailable) else 1
