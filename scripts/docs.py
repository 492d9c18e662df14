"""Write the generated parts of the README, or with --check fail where they are out of date."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from serve_app.config import Config

README = Path(__file__).parent.parent / "README.md"


def settings_table() -> str:
    """Return every setting with its default, as a Markdown table."""
    lines = ["| setting | default | what it is |", "|---|---|---|"]
    lines += [f"| `{name}` | {default} | {text} |" for name, default, text in _settings(Config, "")]
    return "\n".join(lines)


def _settings(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _settings(field.annotation, f"{path}.")
        else:
            yield path, _default(field), field.description or ""


def _default(field: FieldInfo) -> str:
    value: Any = field.default
    if value is PydanticUndefined:
        return "see text"
    if value is None or value == "" or isinstance(value, SecretStr):
        return "–"
    return f"`{value}`"


def generated(text: str) -> str:
    """Return the README with its generated parts made anew."""
    pattern = re.compile(r"(<!-- settings -->\n).*?(\n<!-- /settings -->)", re.DOTALL)
    replaced, count = pattern.subn(lambda match: f"{match[1]}{settings_table()}{match[2]}", text)
    if count != 1:
        raise SystemExit("README.md has lost its <!-- settings --> marks")
    return replaced


def main() -> int:
    text = README.read_text(encoding="utf-8")
    wanted = generated(text)
    if "--check" in sys.argv[1:]:
        if text != wanted:
            print("README.md is out of date; run .venv/bin/python -m scripts.docs", file=sys.stderr)
        return int(text != wanted)
    README.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
