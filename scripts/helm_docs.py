"""Write the table of values into the README of each Helm chart.

    python -m scripts.helm_docs [--check]

A value stands in the table when a comment that begins with `# --` is above it in values.yaml.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import yaml

HELM = Path(__file__).parents[1] / "helm"
BEGIN, END = "<!-- values -->", "<!-- /values -->"
COMMENT = re.compile(r"^ *# -- (?P<sentence>.+)$")
KEY = re.compile(r"^(?P<indent> *)(?P<key>[\w.-]+):")
LONGEST_DEFAULT = 60


def main() -> int:
    """Write the tables; with --check exit with 1 where one is out of date, and write nothing."""
    arguments = _arguments()
    stale = []
    for chart in sorted(path.parent for path in HELM.glob("*/values.yaml")):
        readme = chart / "README.md"
        written = readme.read_text()
        wanted = with_table(written, table((chart / "values.yaml").read_text()))
        if written == wanted:
            continue
        stale.append(readme)
        if not arguments.check:
            readme.write_text(wanted)
    if arguments.check and stale:
        print(*(f"{readme} is out of date: run python -m scripts.helm_docs" for readme in stale), sep="\n")
        return 1
    return 0


def with_table(readme: str, rows: str) -> str:
    """Return the README with the table between its two marks. Raises ValueError where a mark is missing."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the README has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{rows}{END}{after}"


def table(source: str) -> str:
    """Return the Markdown table of a values.yaml."""
    values = yaml.safe_load(source)
    lines = ["| value | default | what it is |", "|---|---|---|"]
    for path, sentence in sentences(source):
        lines.append(f"| `{'.'.join(path)}` | {_default(_at(values, path))} | {sentence} |")
    return "\n".join(lines) + "\n"


def sentences(source: str) -> list[tuple[tuple[str, ...], str]]:
    """Return path and sentence of every value that has one, in the file's order."""
    found, above, sentence = [], list[tuple[int, str]](), ""
    block_indent: int | None = None
    for line in source.splitlines():
        indent = len(line) - len(line.lstrip())
        if block_indent is not None:
            # Inside a block scalar nothing is a key.
            if not line.strip() or indent > block_indent:
                continue
            block_indent = None
        comment, key = COMMENT.match(line), KEY.match(line)
        if comment:
            sentence = comment["sentence"].replace("|", "\\|")
        elif key:
            above = [(at, name) for at, name in above if at < indent] + [(indent, key["key"])]
            if sentence:
                found.append((tuple(name for _, name in above), sentence))
            sentence = ""
            if line.rstrip().endswith("|"):
                block_indent = indent
    return found


def _at(values: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        values = values[name]
    return values


def _default(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=False)
    if value in ("", None):
        return "–"
    return f"`{shown}`" if len(shown) <= LONGEST_DEFAULT else "see `values.yaml`"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts.helm_docs", description=str(__doc__).splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say what is out of date")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
