"""`shoplens search`."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from serve_app.api.wire import ObjectWire, search_answer
from serve_app.cli.local import milvus_uri, need_models
from serve_app.config import Config
from serve_app.errors import BadInput, IndexMissing
from serve_app.market import Market
from serve_app.pipeline import Answer, Query

if TYPE_CHECKING:
    from serve_app.inprocess import Searching


def search_photo(config: Config, photo: Path, query: Query, market: Market, console: Console, *, as_json: bool) -> None:
    """Search with one photo and print the products as a market's shoppers see them."""
    data = _read(photo)
    need_models(config)
    with milvus_uri(config, console) as uri:
        answer = search_answer(asyncio.run(_search(config, uri, data, query, console)), uuid.uuid4().hex, market)
    if as_json:
        console.print_json(json.dumps(answer.model_dump(mode="json")))
        return
    for found in answer.objects:
        if found.products is not None:
            console.print(products_table(found))
    console.print(timings_line(answer.timings_ms))


def products_table(found: ObjectWire) -> Table:
    """Return one object's products for a person."""
    title = "the whole photo" if found.label is None else f"{found.label} {found.confidence or 0:.0%}"
    products = found.products or []
    matched = ["match"] if any(product.match is not None for product in products) else []
    columns = ("product", "score", *matched, "title", "price")
    table = Table(*columns, title=f"{title}{', main' if found.main else ''}", box=None)
    table.title_justify = "left"
    for product in products:
        price = f"{product.price.amount} {product.price.currency}" if product.price else ""
        match = [f"{product.match or 0:.0%}"] if matched else []
        table.add_row(escape(product.product_id), f"{product.score:.3f}", *match, escape(product.title or ""), price)
    return table


def timings_line(timings_ms: dict[str, Any]) -> str:
    """Return the milliseconds of each stage in one line."""
    return ", ".join(f"{name} {value:.1f} ms" for name, value in timings_ms.items())


async def _search(config: Config, uri: str, data: bytes, query: Query, console: Console) -> Answer:
    with console.status("loading the models …") as status:
        from serve_app.inprocess import searching

        async with searching(config, uri) as local:
            status.update("searching …")
            return await _answer(local, data, query)


async def _answer(local: Searching, data: bytes, query: Query) -> Answer:
    state = await local.searcher.index()
    if state.collection is None:
        raise IndexMissing("there is no index for this model; `shoplens import MANIFEST` makes it")
    return await local.pipeline.run(data, query)


def _read(photo: Path) -> bytes:
    try:
        return photo.read_bytes()
    except OSError as error:
        raise BadInput(f"{photo} can't be read: {error.strerror}") from error
