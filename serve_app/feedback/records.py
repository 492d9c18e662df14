"""What is logged of searches and of what shoppers did with them: ids and positions, nobody's photo, nobody's name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from serve_app.pipeline import Answer

ASKED_CHARACTERS = 16
FIRST_LIST = "o0"
"""What the one list of similar products goes by."""


class Act(StrEnum):
    """What a shopper did."""

    CLICK = "click"
    CART = "cart"
    BUY = "buy"
    NONE_FITS = "none_fits"


@dataclass(frozen=True, slots=True)
class Shown:
    """Hold one list of an answer, as it was shown.

    `like` is the product whose similar ones it holds, '' for a photo's list; `further` tells that it is no first page.
    """

    at_ms: int
    asked: str
    object_id: str
    source: str
    main: bool
    further: bool
    like: str
    model: str
    collection: str
    products: tuple[str, ...]
    images: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Feedback:
    """Hold what a shopper did with a product of a list; `position` counts from 1 in that answer's list."""

    request_id: str
    object_id: str
    act: Act
    product_id: str | None = None
    position: int | None = None
    consent: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """Hold feedback as it is logged; `crop` names the file of what was searched with, '' where none is kept."""

    at_ms: int
    asked: str
    object_id: str
    act: Act
    product_id: str | None
    position: int | None
    role: str
    crop: str = ""


def asked_of(request_id: str) -> str:
    """Return what a request goes by in the log.

    The request's id also stands in the service's own log, beside who made it; a hash keeps the two apart.
    """
    return hashlib.sha256(request_id.encode()).hexdigest()[:ASKED_CHARACTERS]


def shown_of(answer: Answer, request_id: str, at_ms: int, *, further: bool = False, like: str = "") -> list[Shown]:
    """Return what is logged of an answer: its lists that hold products."""
    return [
        Shown(
            at_ms=at_ms,
            asked=asked_of(request_id),
            object_id=FIRST_LIST if like else entry.object_id or f"o{place}",
            source="product" if like else str(entry.object.source),
            main=entry.object.main,
            further=further,
            like=like,
            model=answer.model,
            collection=answer.collection or "",
            products=tuple(hit.product_id for hit in entry.products),
            images=tuple(hit.image_id for hit in entry.products),
        )
        for place, entry in enumerate(answer.lists)
        if entry.products
    ]


@dataclass(frozen=True, slots=True)
class Judged:
    """Hold a list with what was done with its products, by product the weightiest act, in the list's order."""

    shown: Shown
    acts: dict[str, Act]
    none_fits: bool
    crop: str

    @property
    def skipped(self) -> tuple[str, ...]:
        """Return the products that stood above the last one that something was done with, and were passed over.

        Whoever clicks the third product has seen the first two (Joachims 2002, https://doi.org/10.1145/775047.775067).
        """
        if self.none_fits and not self.acts:
            return self.shown.products
        places = [place for place, product in enumerate(self.shown.products) if product in self.acts]
        above = self.shown.products[: max(places, default=0)]
        return tuple(product for product in above if product not in self.acts)


WEIGHT = {Act.NONE_FITS: 0, Act.CLICK: 1, Act.CART: 2, Act.BUY: 3}


@dataclass(frozen=True, slots=True)
class Joined:
    """Hold all lists that something was done with; `unmatched` acts were of no list that was shown."""

    lists: tuple[Judged, ...]
    unmatched: int


def join(shown: Iterable[Shown], done: Iterable[Done]) -> Joined:
    """Put together what was shown and what was done with it.

    Feedback is what callers say, so what names no product that its list held, or another place of it, does not count.
    """
    lists: dict[tuple[str, str], Shown] = {}
    for each in shown:
        lists.setdefault((each.asked, each.object_id), each)
    acts: dict[tuple[str, str], dict[str, Act]] = {}
    none: set[tuple[str, str]] = set()
    crops: dict[tuple[str, str], str] = {}
    unmatched = 0
    for one in done:
        key = one.asked, one.object_id
        if key not in lists or not _is_of(one, lists[key]):
            unmatched += 1
            continue
        own = acts.setdefault(key, {})
        if one.product_id is None:
            none.add(key)
        elif WEIGHT[one.act] > WEIGHT.get(own.get(one.product_id, Act.NONE_FITS), 0):
            own[one.product_id] = one.act
        crops[key] = one.crop or crops.get(key, "")
    found = []
    for key, own in acts.items():
        ordered = {product: own[product] for product in lists[key].products if product in own}
        found.append(Judged(lists[key], ordered, key in none, crops[key]))
    return Joined(tuple(found), unmatched)


def _is_of(one: Done, shown: Shown) -> bool:
    if one.product_id is None:
        return one.act is Act.NONE_FITS
    if one.act is Act.NONE_FITS or one.product_id not in shown.products:
        return False
    return one.position is None or shown.products[one.position - 1 : one.position] == (one.product_id,)
