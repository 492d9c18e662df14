"""Search with a photo through the Service: what `helm test` runs."""

from __future__ import annotations

import argparse
import io
import os
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
from PIL import Image, ImageDraw

from serve_app.collection import alias
from serve_app.config import Config, load_config
from serve_app.errors import ShoplensError
from serve_app.milvus import indexing
from serve_app.milvus.client import connect

RETRY_S = 3.0
SEARCH_TIMEOUT_S = 60.0
FIELDS = {"request_id", "photo", "model", "index", "objects", "degraded", "timings_ms"}
SIDE_PX = 320
NOT_ALLOWED = (401, 403)


def main() -> int:
    """Exit with 0 when a search is answered as it should be, else with 1 and the reason."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="of the service")
    parser.add_argument("--settings", type=Path, required=True, help="file of settings, to see what is indexed")
    parser.add_argument("--deadline-s", type=float, default=120, help="seconds to wait for an answer")
    arguments = parser.parse_args()
    try:
        answer = search(arguments.url, time.monotonic() + arguments.deadline_s)
        check(answer, rows_of(load_config(arguments.settings), answer["model"]))
    except (httpx.HTTPError, ValueError, ShoplensError) as error:
        print(f"search test: {error}", file=sys.stderr)
        return 1
    print("search test: passed")
    return 0


def search(url: str, deadline: float) -> Any:
    """Return the answer to a search; raises ValueError with the last one that was no 200."""
    key = os.environ.get("SHOPLENS_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    while True:
        try:
            files = {"photo": ("photo.jpg", photo(), "image/jpeg")}
            response = httpx.post(f"{url}/v1/search", files=files, headers=headers, timeout=SEARCH_TIMEOUT_S)
            if response.status_code == httpx.codes.OK:
                return response.json()
            if response.status_code in NOT_ALLOWED:
                raise ValueError(
                    f"not allowed to search; auth.testKey names a key for this test: {response.text[:500]}"
                )
            reason = f"status {response.status_code}: {response.text[:500]}"
        except httpx.TransportError as error:
            reason = f"no answer: {error!r}"
        if time.monotonic() > deadline:
            raise ValueError(reason)
        print(f"not yet: {reason}", flush=True)
        time.sleep(RETRY_S)


def photo() -> bytes:
    """Return a JPEG of a thing on a ground."""
    image = Image.new("RGB", (SIDE_PX, SIDE_PX), (230, 226, 220))
    drawn = ImageDraw.Draw(image)
    drawn.rounded_rectangle((60, 90, 260, 230), radius=24, fill=(120, 60, 30))
    drawn.ellipse((180, 120, 240, 180), fill=(240, 220, 150))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


def rows_of(config: Config, model: str) -> int:
    """Return how many rows the model's index holds."""
    assert config.milvus.uri is not None
    with closing(connect(config.milvus, config.milvus.uri)) as client:
        standing = indexing.resolve(client, alias(config.catalogue, model))
        return indexing.count(client, standing) if standing else 0


def check(answer: dict[str, Any], rows: int) -> None:
    """Raise ValueError where an answer lacks a field, its list of the whole photo, or products that there are."""
    if missing := FIELDS - answer.keys():
        raise ValueError(f"the answer lacks {', '.join(sorted(missing))}")
    whole = [entry for entry in answer["objects"] if entry["source"] == "whole"]
    if len(whole) != 1 or whole[0]["products"] is None:
        raise ValueError("the answer has no list for the whole photo")
    found = len(whole[0]["products"])
    if rows and not found:
        raise ValueError(f"the index holds {rows} rows, and the search found none")
    flagged = f", degraded: {', '.join(answer['degraded'])}" if answer["degraded"] else ""
    print(f"{found} products from {rows} rows in {answer['timings_ms'].get('total')} ms{flagged}")
    if not rows:
        print("the index is empty: import a catalogue")


if __name__ == "__main__":
    raise SystemExit(main())
