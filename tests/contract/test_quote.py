"""Filters find any text on every engine."""

import random
from typing import Any

import pytest

from serve_app.collection import quote
from tests.contract.engines import Index, settle
from tests.contract.rows import row

SEED = 20_261_123
ALPHABET = "ab\"'\\\n\r\t {}[]()%_#$/,;äß椅🪑\u200b\u2028\ufeff\x01\x7f"


def texts() -> list[str]:
    draw = random.Random(SEED)
    drawn = ["".join(draw.choices(ALPHABET, k=draw.randint(1, 12))) for _ in range(60)]
    spelt = [
        "",
        "\\",
        '"',
        "'",
        "\\n",
        '\\"',
        "\\\\",
        "a\nb",
        '" or 1 == 1 or feed == "',
        "{x}",
        "$meta",
        "null",
        "ä\u0308",
    ]
    return list(dict.fromkeys(spelt + drawn))


@pytest.fixture(scope="module")
def filled(index: Index) -> Index:
    index.writer().write([row(f"quoted-{number}", feed=text) for number, text in enumerate(texts())])
    settle(index.engine)
    return index


def found_by(index: Index, text: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = index.client.query(index.alias, filter=text, output_fields=["image_id", "feed"])
    return rows


def test_a_quoted_text_matches_itself_alone(filled: Index) -> None:
    for number, text in enumerate(texts()):
        found = found_by(filled, f"feed == {quote(text)}")
        assert [(hit["image_id"], hit["feed"]) for hit in found] == [(f"quoted-{number}", text)]


def test_many_quoted_texts_match_as_a_list(filled: Index) -> None:
    listed = ", ".join(map(quote, texts()))
    assert len(found_by(filled, f"feed in [{listed}]")) == len(texts())
