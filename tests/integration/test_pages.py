"""Pages, filters and orders of a real catalogue, over HTTP."""

from __future__ import annotations

import csv
from pathlib import Path

import httpx
import pytest

from scripts.measuring import wait_until
from serve_app.weights.loader import fingerprint
from tests.integration.service import Service
from tests.unit.builders import curve

CATEGORIES = ("Radios/Table", "Radios/Portable", "Radios/Portable/Car")


@pytest.fixture(scope="module")
def catalogue(radios) -> list[dict[str, str]]:
    """Two photos each of twelve radios: prices from 10.50 EUR, in three categories, every third one sold out."""
    products = sorted({path.parent.name for path in radios.images})
    return [
        {
            "image": str(path),
            "product_id": path.parent.name,
            "parent_id": f"style {products.index(path.parent.name) // 2}",
            "category": CATEGORIES[products.index(path.parent.name) % 3],
            "price": f"{10 + products.index(path.parent.name)}.50",
            "currency": "EUR",
            "in_stock": str(products.index(path.parent.name) % 3 != 0).lower(),
            "bands": str(1 + products.index(path.parent.name) % 4),
        }
        for path in radios.images
    ]


@pytest.fixture(scope="module")
def service(tmp_path_factory, weights, catalogue):
    folder = tmp_path_factory.mktemp("shop")
    manifest = folder / "manifest.csv"
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(catalogue[0]))
        writer.writeheader()
        writer.writerows(catalogue)
    calibration = folder / "curve.json"
    calibration.write_text(curve(fingerprint()).model_dump_json())
    settings = {"STORE__TIMEOUT_S": "5", "EMBEDDER__CALIBRATION": str(calibration)}
    with Service(folder / "data", weights, **settings) as running:
        running.shoplens("import", str(manifest))
        wait_until(lambda: httpx.get(f"{running.url}/v2/health/ready").is_success, timeout_s=180, what="readiness")
        wait_until(lambda: first(running, catalogue)["next"], timeout_s=180, what="cursor")
        yield running


def whole(response: httpx.Response) -> dict:
    assert response.status_code == 200, response.text
    (entry,) = response.json()["objects"]
    return entry


def first(service: Service, catalogue, **parameters) -> dict:
    given = {"objects": "whole", "top_k": 5, **parameters}
    return whole(service.search(Path(catalogue[0]["image"]), **given))


def turn(service: Service, cursor: str, **parameters) -> httpx.Response:
    return httpx.post(f"{service.url}/v1/search", params={"cursor": cursor, **parameters}, timeout=120)


def ids(entry: dict) -> list[str]:
    return [product["product_id"] for product in entry["products"]]


def test_pages_hold_every_product_once_in_the_order_of_one_long_page(service, catalogue):
    long = first(service, catalogue, top_k=100)
    assert long["next"] is None
    entry = first(service, catalogue)
    found = ids(entry)
    while entry["next"]:
        entry = whole(turn(service, entry["next"], top_k=5))
        found += ids(entry)
    assert found == ids(long)
    assert len(set(found)) == 12


def test_cursor_that_was_changed_is_refused(service, catalogue):
    cursor = first(service, catalogue)["next"]
    assert turn(service, cursor[:-3] + "AAA").json()["code"] == "photo_expired"
    assert turn(service, "nonsense").json()["code"] == "bad_parameter"
    assert turn(service, cursor, min_score=0.1).json()["code"] == "bad_parameter"


@pytest.mark.parametrize(
    ("parameters", "passes"),
    [
        ({"category": "Radios/Portable"}, lambda row: row["category"].startswith("Radios/Portable")),
        ({"category": ["Radios/Table", "Radios/Portable/Car"]}, lambda row: row["category"] != "Radios/Portable"),
        ({"price_max": "12.50", "currency": "EUR"}, lambda row: float(row["price"]) <= 12.5),
        ({"price_min": "12.51", "currency": "EUR"}, lambda row: float(row["price"]) > 12.5),
        ({"price_min": "1", "currency": "USD"}, lambda row: False),
        ({"in_stock": "false"}, lambda row: row["in_stock"] == "false"),
        ({"attr.bands": ["1", "3"]}, lambda row: row["bands"] in "13"),
        ({"attr.bands": "2", "in_stock": "true"}, lambda row: row["bands"] == "2" and row["in_stock"] == "true"),
    ],
    ids=str,
)
def test_search_is_narrowed_to_what_passes(service, catalogue, parameters, passes):
    found = first(service, catalogue, top_k=100, **parameters)
    assert sorted(ids(found)) == sorted({row["product_id"] for row in catalogue if passes(row)})


def test_colours_of_one_style_are_one(service, catalogue):
    parents = {row["product_id"]: row["parent_id"] for row in catalogue}
    found = ids(first(service, catalogue, top_k=100, group_by="parent"))
    assert len(found) == 6
    assert len({parents[product] for product in found}) == 6


def test_similar_products_are_sorted_by_price(service, catalogue):
    for order, sign in (("price_asc", 1), ("price_desc", -1)):
        products = first(service, catalogue, top_k=100, sort=order, currency="EUR")["products"]
        best = max(product["score"] for product in products)
        band = [
            (not product["in_stock"], sign * float(product["price"]["amount"]))
            for product in products
            if product["score"] >= best - 0.1
        ]
        assert band == sorted(band)
        assert len(products) == 12


def matches(entry: dict) -> dict[str, float]:
    return {product["product_id"]: product["match"] for product in entry["products"]}


def test_products_have_one_match_whatever_page_and_order_they_are_shown_in(service, catalogue):
    plain = matches(long := first(service, catalogue, top_k=100))
    scores = [product["score"] for product in long["products"]]
    assert list(plain.values()) == pytest.approx(curve().matches(scores, 1.0), abs=1e-4)
    assert len(set(plain.values())) > 6
    assert matches(first(service, catalogue, top_k=100, sort="price_asc", currency="EUR")) == plain
    entry = first(service, catalogue, top_k=1)
    paged = matches(entry)
    while entry["next"]:
        entry = whole(turn(service, entry["next"], top_k=4))
        paged |= matches(entry)
    assert paged == plain


def test_less_likely_products_are_left_out(service, catalogue):
    plain = matches(first(service, catalogue, top_k=100))
    least = sorted(plain.values())[6]
    found = first(service, catalogue, top_k=4, min_match=least)
    rest = whole(turn(service, found["next"], top_k=100))
    assert matches(found) | matches(rest) == {name: match for name, match in plain.items() if match >= least}
    assert rest["next"] is None


def test_products_like_another_one_have_no_match(service, catalogue):
    url = f"{service.url}/v1/products/{catalogue[0]['product_id']}/similar"
    products = httpx.get(url, timeout=120).json()["products"]
    assert {product["match"] for product in products} == {None}
    assert httpx.get(url, params={"min_match": 0.5}, timeout=120).json()["code"] == "bad_parameter"


def test_deleted_products_leave_their_pages(service, catalogue, tmp_path):
    entry = first(service, catalogue, top_k=4)
    rest = ids(first(service, catalogue, top_k=100))[4:]
    gone, changed = rest[1], rest[0]
    events = tmp_path / "events.jsonl"
    events.write_text(
        f'{{"event": "delete", "product_id": "{gone}"}}\n'
        f'{{"event": "update", "product_id": "{changed}", "price": "99.00", "currency": "EUR"}}\n'
    )
    service.shoplens("feed", str(events))

    def page() -> list[dict]:
        return whole(turn(service, entry["next"], top_k=4))["products"]

    wait_until(lambda: gone not in [product["product_id"] for product in page()], timeout_s=180, what="delete")
    assert [product["product_id"] for product in page()] == [name for name in rest if name != gone][:4]
    assert page()[0]["price"]["amount"] == "99.00"
