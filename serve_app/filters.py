"""What a shopper narrows a search to, as typed values; printed as Milvus's expression in one place.

A filter is printed with its values in it: neither Milvus Lite nor Milvus 2.3 knows filter templates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from serve_app.collection import category_root, quote
from serve_app.domain import Hit
from serve_app.errors import BadParameter
from serve_app.money import LARGEST_PRICE, PriceRange

MAX_VALUES = 100
"""Categories, attributes, and values of one attribute that a filter may name."""
MAX_TEXT_BYTES = 512

Scalar = str | bool | int | float
"""What an attribute may be compared with; 1 and 1.0 are the same number, "1" and true are others."""

_NOT_IN_A_NAME = frozenset("\"'\\/~[]{}\n\r\t")
"""Engines read these differently in the key of a JSON field."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Narrow a search; what is empty or None does not.

    A row passes when its category is one of `categories` or below it, its price lies in `price_min`…`price_max`
    (both included, minor units of `currency`) and in one of `prices`, it is in stock as asked, and each of `attributes`
    has one of the values named for it, alone or in a list. A row without a price passes no bound of prices.
    `prices` asks for one price in all currencies that rows have; `Market.prices` makes them. Rows of `but_product`, and
    of the products of `but_parent`, don't pass.
    Raises BadParameter for values that no row can have or no engine can look for.
    """

    categories: tuple[str, ...] = ()
    price_min: int | None = None
    price_max: int | None = None
    currency: str | None = None
    prices: tuple[PriceRange, ...] = ()
    in_stock: bool | None = None
    attributes: tuple[tuple[str, tuple[Scalar, ...]], ...] = ()
    but_product: str = ""
    but_parent: str = ""

    def __post_init__(self) -> None:
        _check_count("categories", self.categories)
        for category in self.categories:
            _check_text("category", category)
            if not category_root(category):
                raise BadParameter("category is empty; name a path like Men/Tops, or leave it out")
        self._check_price()
        _check_count("attributes", self.attributes)
        for name, values in self.attributes:
            _check_attribute(name, values)
        _check_text("product_id", self.but_product)
        _check_text("parent_id", self.but_parent)

    def _check_price(self) -> None:
        bounds = [bound for bound in (self.price_min, self.price_max) if bound is not None]
        if bounds and not self.currency:
            raise BadParameter("price_min and price_max need a currency, like EUR")
        if self.currency is not None:
            _check_text("currency", self.currency)
        if any(not 0 <= bound <= LARGEST_PRICE for bound in bounds):
            raise BadParameter(f"a price lies in 0…{LARGEST_PRICE} minor units")
        if len(bounds) == 2 and bounds[0] > bounds[1]:
            raise BadParameter("price_min is above price_max")
        _check_count("currencies", self.prices)
        for price in self.prices:
            _check_text("currency", price.currency)
            if not 0 <= price.low <= (LARGEST_PRICE if price.high is None else price.high) <= LARGEST_PRICE:
                raise BadParameter(f"a range of prices goes up, within 0…{LARGEST_PRICE} minor units")

    def __bool__(self) -> bool:
        return self != NO_FILTER


def expression(wanted: Filter, *, prune: bool = False) -> str:
    """Print a filter for Milvus; '' where nothing is asked.

    With `prune`, Milvus searches only the partitions that hold the asked categories. That loses rows where an upsert
    put them into the wrong partition, as Milvus did before 2.3.11: https://github.com/milvus-io/milvus/issues/30607.
    """
    return " and ".join(f"({part})" for part in _parts(wanted, prune))


def matches(wanted: Filter, row: Hit | Mapping[str, Any]) -> bool:
    """Tell whether a hit, or the values of a row, passes."""
    values = row if isinstance(row, Mapping) else {name: getattr(row, name) for name in _FIELDS}
    if wanted.categories and not any(_is_below(values["category"], category) for category in wanted.categories):
        return False
    if wanted.in_stock is not None and values["in_stock"] != wanted.in_stock:
        return False
    if not _price_matches(wanted, values["price"], values["currency"]):
        return False
    if wanted.but_product and values["product_id"] == wanted.but_product:
        return False
    if wanted.but_parent and values["parent_id"] == wanted.but_parent:
        return False
    attributes = values["data"].get("attributes") or {}
    return all(_has_one(attributes.get(name), asked) for name, asked in wanted.attributes)


_FIELDS = ("category", "in_stock", "price", "currency", "data", "product_id", "parent_id")


def _parts(wanted: Filter, prune: bool) -> Iterable[str]:
    paths = [category.rstrip("/") for category in wanted.categories]
    if paths and prune:
        roots = ", ".join(dict.fromkeys(quote(category_root(path)) for path in paths))
        yield f"category_root in [{roots}]"
    if paths:
        yield " or ".join(map(_below, paths))
    if wanted.currency is not None:
        yield f"currency == {quote(wanted.currency)}"
    if wanted.price_min is not None or wanted.price_max is not None:
        yield f"price >= {wanted.price_min or 0}"
    if wanted.price_max is not None:
        yield f"price <= {wanted.price_max}"
    if wanted.prices:
        yield " or ".join(map(_in_range, wanted.prices))
    if wanted.in_stock is not None:
        yield f"in_stock == {_literal(wanted.in_stock)}"
    if wanted.but_product:
        yield f"product_id != {quote(wanted.but_product)}"
    if wanted.but_parent:
        yield f"parent_id != {quote(wanted.but_parent)}"
    for name, values in wanted.attributes:
        key = f'data["attributes"]["{name}"]'
        yield " or ".join(f"{key} == {_literal(value)} or json_contains({key}, {_literal(value)})" for value in values)


def _in_range(prices: PriceRange) -> str:
    upper = "" if prices.high is None else f" and price <= {prices.high}"
    return f"(currency == {quote(prices.currency)} and price >= {prices.low}{upper})"


def _below(path: str) -> str:
    """Print what holds for the path and all below it: texts are compared by their bytes, and 0 follows /."""
    return f"category == {quote(path)} or (category >= {quote(path + '/')} and category < {quote(path + '0')})"


def _is_below(category: str, wanted: str) -> bool:
    path = wanted.rstrip("/")
    return category == path or category.startswith(path + "/")


def _price_matches(wanted: Filter, price: int, currency: str) -> bool:
    if wanted.prices and not any(_lies_in(prices, price, currency) for prices in wanted.prices):
        return False
    if wanted.currency is not None and currency != wanted.currency:
        return False
    if wanted.price_min is None and wanted.price_max is None:
        return True
    upper = LARGEST_PRICE if wanted.price_max is None else wanted.price_max
    return (wanted.price_min or 0) <= price <= upper


def _lies_in(prices: PriceRange, price: int, currency: str) -> bool:
    return currency == prices.currency and prices.low <= price <= (
        LARGEST_PRICE if prices.high is None else prices.high
    )


def _has_one(value: Any, asked: Iterable[Scalar]) -> bool:
    held = value if isinstance(value, list) else [value]
    return any(_same(item, wanted) for item in held for wanted in asked)


def _same(held: Any, wanted: Scalar) -> bool:
    if isinstance(held, bool) or isinstance(wanted, bool):
        return held is wanted
    return bool(held == wanted)


def _literal(value: Scalar) -> str:
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, bool):
        return str(value).lower()
    # Milvus Lite takes no sign in the arguments of a function.
    return repr(value) if value >= 0 else f"({value!r})"


def _check_attribute(name: str, values: tuple[Scalar, ...]) -> None:
    _check_text("the name of an attribute", name)
    if not name or _NOT_IN_A_NAME & set(name):
        raise BadParameter(
            f"an attribute named {name!r} can't be filtered by; quotes, slashes, brackets are no part of it"
        )
    if not values:
        raise BadParameter(f"the attribute {name} has no value to look for")
    _check_count(f"values of {name}", values)
    for value in values:
        if isinstance(value, str):
            _check_text(f"a value of {name}", value)
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise BadParameter(f"a value of {name} is too large")
        elif isinstance(value, float) and not abs(value) < float("inf"):
            raise BadParameter(f"a value of {name} is no finite number")


def _check_count(name: str, values: tuple[Any, ...]) -> None:
    if len(values) > MAX_VALUES:
        raise BadParameter(f"{len(values)} {name} are too many for one filter; at most {MAX_VALUES}")


def _check_text(name: str, text: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise BadParameter(f"{name} holds half of a character, which UTF-8 can't") from error
    if size > MAX_TEXT_BYTES or "\0" in text:
        raise BadParameter(f"{name} takes {size} bytes; at most {MAX_TEXT_BYTES}, and no NUL, can be looked for")


NO_FILTER = Filter()
