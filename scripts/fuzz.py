"""Let atheris make inputs of its own for what reads strangers' bytes, led by which of our lines they reach.

Ends with 0 where each was taken or refused by an error of ours. Anything else is printed, and the input that did it is
left in the folder as crash-…. Inputs that reached new lines stay there too, and the next run begins with them.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl

import atheris

with atheris.instrument_imports(include=["serve_app"]):
    from serve_app.api.parameters import read_parameters
    from serve_app.api.query_string import merged, query_values
    from serve_app.api.uploads import of_values, parsed
    from serve_app.errors import ShoplensError
    from serve_app.filters import expression
    from serve_app.images import decode
    from serve_app.market import Markets
    from serve_app.metadata import without_metadata
    from serve_app.rates import NO_RATES

MAX_BYTES = 8192
MAX_PIXELS = 1_000_000
MEMORY_MIB = 4096
SLOWEST_S = 10


def photo(data: bytes) -> None:
    """Decode what may be a photo, and leave its metadata out."""
    decode(data, max_pixels=MAX_PIXELS)
    without_metadata(data)


def filters(data: bytes) -> None:
    """Read a query string and a body of JSON, divided by the first NUL, as a search does, and print the filter."""
    query, _, body = data.partition(b"\0")
    values = query_values(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    upload = of_values(sent, MAX_BYTES) if isinstance(sent := parsed(body or b"{}"), dict) else None
    parameters = read_parameters(merged(values, upload.values if upload else {}))
    market = Markets(lambda: NO_RATES).of(parameters.language, None, parameters.currency)
    expression(parameters.query(market).wanted).encode()


TARGETS: dict[str, Callable[[bytes], None]] = {"photo": photo, "filters": filters}


def seeds(target: str) -> list[bytes]:
    """Return inputs to begin with."""
    if target == "photo":
        from scripts.bad_photos import ENCODINGS, encoded, picture

        return [encoded(picture(32), encoding) for encoding in ENCODINGS]
    return [
        b"category=Men/Tops&attr.colour=red&attr.size=44&in_stock=true&top_k=5&box=0,0,1,1&objects=main",
        b"price_min=1.5&price_max=9&currency=EUR&language=de-AT&sort=price_asc&facets=attr.colour",
        b'top_k=5\0{"category": ["Men"], "attributes": {"size": [44, 1.5, true, "x"]}, "boxes": [[0, 0, 0.5, 1]]}',
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.fuzz", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("folder", type=Path, help="where inputs are kept")
    parser.add_argument("--seconds", type=int, default=60, help="how long (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the inputs (default: %(default)s)")
    arguments = parser.parse_args()
    run = TARGETS[arguments.target]

    def one(data: bytes) -> None:
        try:
            run(data)
        except ShoplensError:
            return

    warnings.simplefilter("ignore")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(arguments.target)):
        (arguments.folder / f"seed-{number}").write_bytes(seed)
    options = [f"-max_total_time={arguments.seconds}", f"-seed={arguments.seed}", f"-max_len={MAX_BYTES}"]
    options += [f"-rss_limit_mb={MEMORY_MIB}", f"-timeout={SLOWEST_S}", f"-artifact_prefix={arguments.folder}/"]
    atheris.Setup([sys.argv[0], *options, "-verbosity=0", str(arguments.folder)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
