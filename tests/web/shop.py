"""A shop of drawn products behind the real API, for a browser: what it answers is canned, how it says it is not."""

import asyncio
import io
import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from fractions import Fraction
from itertools import count

import numpy as np
import uvicorn
from fastapi import FastAPI, Response
from PIL import Image, ImageDraw, UnidentifiedImageError

from serve_app.api.app import create_app
from serve_app.api.service import IndexView
from serve_app.browser_detector import BrowserDetector
from serve_app.calibration import Chances, Curve
from serve_app.callers import Access, Caller, make_access
from serve_app.config import Config, PageConfig
from serve_app.domain import WHOLE_BOX, Box, Detection, Hit, Source, StoredView
from serve_app.errors import NotAnImage, PhotoExpired, UnknownProduct, UrlRefused
from serve_app.feedback.records import Feedback
from serve_app.keeping import Bounds, ShelfStore
from serve_app.limiting import Quotas
from serve_app.market import Markets
from serve_app.objects import ObjectList
from serve_app.pipeline import Answer, Fixed, ProductList, Query, Stored
from serve_app.ranking import Sort
from serve_app.rates import NO_RATES, Rate
from serve_app.rules import NO_RULES, Rules
from serve_app.weights.loader import DETECTOR_SHA256
from tests.unit.builders import hit

MODEL = "0123456789ab"
COLOURS = {"teal": "#2a9d8f", "coral": "#e76f51", "sand": "#e9c46a", "navy": "#264653", "plum": "#7b4b94"}
SHAPES = {"ball": ("sports ball", "Ball", "ボール", "كرة"), "chair": ("chair", "Stuhl", "椅子", "كرسي"),
          "vase": ("vase", "Vase", "花瓶", "مزهرية")}  # fmt: skip
"""Each kind of product: the detector's name of it, and its name in German, Japanese and Arabic."""
PLACES = {"chair": Box(0.08, 0.22, 0.42, 0.86), "ball": Box(0.5, 0.5, 0.74, 0.82), "vase": Box(0.78, 0.16, 0.94, 0.6)}
"""Where each stands in the scene."""
PRODUCTS = 90
RATES = NO_RATES.updated(
    [Rate("USD", Fraction("1.25"), date(2026, 10, 30), "test"), Rate("JPY", Fraction(160), date(2026, 10, 30), "test")]
)


def draw(pen: ImageDraw.ImageDraw, shape: str, colour: str, box: tuple[float, float, float, float]) -> None:
    x0, y0, x1, y1 = box
    wide, high = x1 - x0, y1 - y0
    dark = "#00000055"
    if shape == "ball":
        pen.ellipse(box, fill=colour)
        pen.arc(
            (x0 + wide * 0.25, y0 - high * 0.1, x1 + wide * 0.35, y1 * 1), 120, 240, fill=dark, width=int(wide / 25)
        )
    elif shape == "chair":
        for leg in (0.12, 0.78):
            pen.rectangle((x0 + wide * leg, y0 + high * 0.6, x0 + wide * (leg + 0.1), y1), fill="#7a5a3c")
        pen.rounded_rectangle((x0 + wide * 0.08, y0, x1 - wide * 0.08, y0 + high * 0.55), wide / 10, fill=colour)
        pen.rounded_rectangle((x0, y0 + high * 0.5, x1, y0 + high * 0.66), wide / 14, fill=colour, outline=dark)
    else:
        neck = wide * 0.28
        pen.rectangle((x0 + neck, y0, x1 - neck, y0 + high * 0.4), fill=colour)
        pen.ellipse((x0, y0 + high * 0.28, x1, y1), fill=colour)
        pen.rectangle((x0 + neck * 0.7, y0, x1 - neck * 0.7, y0 + high * 0.05), fill=colour)


def scene(width: int = 2400, height: int = 1800) -> bytes:
    """Return a photo with three things in it, larger than the page sends one."""
    image = Image.new("RGB", (width, height), "#d8cfc4")
    pen = ImageDraw.Draw(image, "RGBA")
    pen.rectangle((0, height * 0.78, width, height), fill="#b79f85")
    for (shape, box), colour in zip(PLACES.items(), COLOURS.values(), strict=False):
        draw(pen, shape, colour, (box.x0 * width, box.y0 * height, box.x1 * width, box.y1 * height))
    return _bytes(image, "JPEG")


def picture(product_id: str) -> bytes:
    shape, colour, *_ = product_id.split("-")
    image = Image.new("RGB", (480, 480), "white")
    pen = ImageDraw.Draw(image, "RGBA")
    inner = {"ball": (90, 90, 390, 390), "chair": (120, 70, 360, 410), "vase": (150, 60, 330, 420)}[shape]
    draw(pen, shape, COLOURS[colour], inner)
    return _bytes(image, "PNG")


def _bytes(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, quality=88)
    return file.getvalue()


def _product(number: int) -> Hit:
    shape, colour = list(SHAPES)[number % 3], list(COLOURS)[number // 3 % 5]
    product_id = f"{shape}-{colour}-{number}"
    _, german, japanese, arabic = SHAPES[shape]
    titles = {"en": f"{colour.title()} {shape} no. {number}", "de": f"{german} Nr. {number}"}
    titles |= {"ja": f"{japanese} {number}", "ar": f"{arabic} {number}"}
    found = hit(
        product_id,
        0.9 - number / 300,
        f"image-{number}",
        titles=titles,
        image_url=f"pictures/{product_id}.png",
        attributes={"colour": colour, "legs": 4 if shape == "chair" else 0},
    )
    stocked, price = number % 4 != 3, 990 + 350 * (number * 7 % 40)
    return replace(found, price=price, currency="EUR", in_stock=stocked, category=f"Home/{shape.title()}s")


CATALOGUE = tuple(_product(number) for number in range(PRODUCTS))


def ranked(shape: str | None, query: Query) -> tuple[Hit, ...]:
    """Return the products that a query lets through, those of a shape first."""
    wanted = query.wanted
    found = [
        each
        for each in CATALOGUE
        if (wanted.in_stock is None or each.in_stock == wanted.in_stock)
        and (not wanted.categories or each.category in wanted.categories)
        and all(each.data["attributes"][name] in values for name, values in wanted.attributes)
        and (not wanted.prices or any(_lies_in(each, bound.low, bound.high, bound.currency) for bound in wanted.prices))
    ]
    if query.sort is not Sort.SIMILARITY:
        return tuple(sorted(found, key=lambda each: each.price, reverse=query.sort is Sort.PRICE_DESC))
    return tuple(sorted(found, key=lambda each: shape is not None and not each.product_id.startswith(shape)))


def _lies_in(product: Hit, low: int, high: int | None, currency: str) -> bool:
    return product.currency == currency and low <= product.price <= (math.inf if high is None else high)


@dataclass
class Shop:
    """Be the service behind the API; what it shall answer otherwise is set from outside."""

    fingerprint: str = MODEL
    detector_sha256: str = DETECTOR_SHA256
    max_body_bytes: int = 20 * 2**20
    markets: Markets = field(default_factory=lambda: Markets(lambda: RATES, today=lambda: date(2026, 11, 1)))
    page_settings: PageConfig = field(default_factory=PageConfig)
    access: Access = field(default_factory=lambda: make_access(Config()))
    quotas: Quotas = field(default_factory=lambda: Quotas(ShelfStore(Bounds(10**6, 10**6, 900)), timeout_s=5))
    failures: list[Exception] = field(default_factory=list)
    """Raised by the next searches, one each."""
    degraded: tuple[str, ...] = ()
    empty: bool = False
    takes_feedback: bool = False
    browser_detector: BrowserDetector | None = None
    told: list[Feedback] = field(default_factory=list)
    shown: dict[str, Answer] = field(default_factory=dict)
    """By the request's id."""
    delay_s: float = 0
    held: bool = False
    """No search is answered until this is over."""
    curve: Curve | None = None
    places: Mapping[str, Box] = field(default_factory=lambda: PLACES)
    uploads: list[bytes] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    lists: dict[str, tuple[Hit, ...]] = field(default_factory=dict)
    """By the beginning of a cursor."""
    numbers: Iterator[int] = field(default_factory=count)

    @property
    def tells_matches(self) -> bool:
        return self.curve is not None

    async def search(self, owner: str, photo: bytes, query: Query, *, bulk: bool = False) -> Answer:
        await self._think()
        self.uploads.append(photo)
        try:
            Image.open(io.BytesIO(photo)).close()
        except UnidentifiedImageError as error:
            raise NotAnImage("the photo can't be read") from error
        token = f"photo-{next(self.numbers)}"
        self.tokens.add(token)
        return self._answer(token, query)

    async def search_again(self, owner: str, token: str, query: Query, *, bulk: bool = False) -> Answer:
        await self._think()
        if token not in self.tokens:
            raise PhotoExpired("the photo is gone")
        return self._answer(token, query)

    async def search_url(self, owner: str, url: str, query: Query, *, bulk: bool = False) -> Answer:
        raise UrlRefused("the page sends photos, and no URLs")

    async def page(self, owner: str, cursor: str, top_k: int, query: Query | None, *, bulk: bool = False) -> Answer:
        await self._think()
        name, _, start = cursor.rpartition(":")
        if name not in self.lists:
            raise PhotoExpired("the list is gone")
        return self._lists([self._list(Detection(WHOLE_BOX), Source.WHOLE, True, name, int(start), top_k)], None)

    async def product(self, product_id: str, *, strong: bool) -> Stored:
        rows = [StoredView(each, np.empty(0, np.float32), 1) for each in CATALOGUE if each.product_id == product_id]
        if not rows:
            raise UnknownProduct("there is no such product")
        return Stored(tuple(rows), 1_795_428_000_000, "products_x")

    async def similar(self, owner: str, product_id: str, query: Query) -> Answer:
        await self._think()
        name = f"list-{next(self.numbers)}"
        found = ranked(product_id.split("-")[0], query)
        self.lists[name] = tuple(each for each in found if each.product_id != product_id)
        return self._lists([self._list(Detection(WHOLE_BOX), Source.WHOLE, True, name, 0, query.top_k)], None)

    async def similar_page(self, owner: str, product_id: str, cursor: str, top_k: int, query: Query | None) -> Answer:
        return await self.page(owner, cursor, top_k, query)

    async def _think(self) -> None:
        await asyncio.sleep(self.delay_s)
        while self.held:  # noqa: ASYNC110 - another thread ends it
            await asyncio.sleep(0.02)
        if self.failures:
            raise self.failures.pop(0)

    def _answer(self, token: str, query: Query) -> Answer:
        focus, lists = query.focus, []
        self.boxes += focus.boxes
        if focus.boxes:
            found = [(Detection(box), self._shape_at(box), Source.SHOPPER) for box in focus.boxes]
        elif self.degraded and "partial_index" not in self.degraded:
            found = []
        else:
            seen = self.places.items()
            found = [(Detection(box, SHAPES[shape][0], 0.8), shape, Source.DETECTOR) for shape, box in seen]
        for number, (detection, shape, source) in enumerate(found):
            if source is Source.DETECTOR and number == 2:
                lists.append(ProductList(ObjectList(detection, source, False, ()), None))
                continue
            lists.append(self._new(detection, source, number == 0, shape, query))
        if not focus.boxes:
            lists.append(self._new(Detection(WHOLE_BOX), Source.WHOLE, not found, None, query))
        return self._lists(lists, token)

    def _shape_at(self, box: Box) -> str:
        def distance(shape: str) -> float:
            place = self.places[shape]
            return math.hypot(place.x0 + place.x1 - box.x0 - box.x1, place.y0 + place.y1 - box.y0 - box.y1)

        return min(self.places, key=distance)

    def _new(self, detection: Detection, source: Source, main: bool, shape: str | None, query: Query) -> ProductList:
        name = f"list-{next(self.numbers)}"
        self.lists[name] = () if self.empty else ranked(shape, query)
        return self._list(detection, source, main, name, 0, query.top_k)

    def _list(self, detection: Detection, source: Source, main: bool, name: str, start: int, top_k: int) -> ProductList:
        hits, end = self.lists[name], start + top_k
        following = f"{name}:{end}" if end < len(hits) else None
        fixed = Fixed(hits, whole=True, embeddings=np.empty((0, 256), np.float32)) if not start else None
        entry = ObjectList(detection, source, main, (0,))
        best_first = sorted(hits, key=lambda each: -each.score)
        chances = None if self.curve is None else Chances.of(self.curve, detection.box.area, best_first)
        return ProductList(entry, hits[start:end], fixed=fixed, next=following, chances=chances)

    def _lists(self, lists: list[ProductList], token: str | None) -> Answer:
        return Answer(2400, 1800, MODEL, "products_x", tuple(lists), self.degraded, 1_795_428_000_000, {}, token)

    def show(self, owner, request_id, answer, *, further=False, like="") -> None:
        self.shown[request_id] = answer

    async def feedback(self, caller: Caller, feedback: Feedback) -> bool:
        await self._think()
        self.told.append(feedback)
        return False

    def rules(self) -> Rules:
        return NO_RULES

    def index(self) -> IndexView:
        return IndexView("products_x")

    def ready(self) -> IndexView | None:
        return None

    def count(self, code, timings_ms, degraded=()):
        pass

    async def metrics(self) -> str:
        return ""


def make_app(shop: Shop) -> FastAPI:
    """Return the API with pictures of the products beside it."""
    app = create_app(shop)

    @app.get("/pictures/{name}.png")
    def pictures(name: str) -> Response:
        return Response(picture(name), media_type="image/png", headers={"Cache-Control": "max-age=3600"})

    return app


@contextmanager
def served(shop: Shop) -> Iterator[str]:
    """Serve a shop on loopback, and yield its address."""
    server = uvicorn.Server(uvicorn.Config(make_app(shop), host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the shop did not start"
            thread.join(0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.should_exit = True
        thread.join()
