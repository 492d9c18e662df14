"""Products that are put, read, searched from and removed over HTTP, with real models."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import numpy as np
import pytest

from scripts.measuring import wait_until
from serve_app.collection import alias, quote
from serve_app.config import MilvusConfig
from serve_app.milvus.client import connect
from serve_app.milvus.local import LocalMilvus
from tests.integration.service import Service

TIMEOUT_S = 120


@pytest.fixture(scope="module")
def photos(radios) -> dict[str, list[Path]]:
    """The photos of twelve radios, by product."""
    found: dict[str, list[Path]] = {}
    for path in radios.images:
        found.setdefault(path.parent.name, []).append(path)
    return found


@pytest.fixture(scope="module")
def service(tmp_path_factory, weights):
    with Service(tmp_path_factory.mktemp("shop"), weights, STORE__TIMEOUT_S="5") as running:
        yield running


@pytest.fixture(scope="module")
def filled(service, photos):
    """Let all products be put in one batch, into a shop that has no index."""
    items = [body(paths) | {"product_id": name} for name, paths in photos.items()]
    response = httpx.post(f"{service.url}/v1/products:batch", json={"items": items}, timeout=TIMEOUT_S)
    assert response.status_code == 200, response.text
    assert [item["status"] for item in response.json()["items"]] == ["stored"] * len(photos)
    wait_until(lambda: httpx.get(f"{service.url}/v2/health/ready").is_success, timeout_s=180, what="readiness")
    return service


def body(paths: list[Path], **values) -> dict:
    images = [{"image": base64.b64encode(path.read_bytes()).decode(), "image_id": path.stem} for path in paths]
    return {"images": images, "title": {"en": f"Radio {paths[0].parent.name}"}, "category": "Radios", **values}


def put(service: Service, product_id: str, body: dict, **headers: str) -> httpx.Response:
    return httpx.put(f"{service.url}/v1/products/{product_id}", json=body, headers=headers, timeout=TIMEOUT_S)


def get(service: Service, path: str, **parameters) -> httpx.Response:
    given = {"consistency": "strong", **parameters}
    return httpx.get(f"{service.url}/v1/products/{path}", params=given, timeout=TIMEOUT_S)


def found(service: Service, photo: Path, **parameters) -> list[dict]:
    response = service.search(photo, objects="whole", consistency="strong", **parameters)
    assert response.status_code == 200, response.text
    return response.json()["objects"][0]["products"]


def test_photo_that_was_put_finds_itself(filled, photos):
    for name, paths in photos.items():
        best = found(filled, paths[0], top_k=3)[0]
        assert (best["product_id"], best["title"]) == (name, f"Radio {name}")
        assert best["score"] >= 0.999


def test_put_and_import_make_the_same_rows(filled, photos, tmp_path):
    name, paths = next(iter(photos.items()))
    manifest = tmp_path / "manifest.jsonl"
    rows = [
        {"image": str(path), "product_id": "imported", "image_id": f"imported {path.stem}", "category": "Radios"}
        for path in paths
    ]
    manifest.write_text("\n".join(map(json.dumps, rows)))
    filled.shoplens("import", str(manifest))
    sent, imported = (vectors(filled, name), vectors(filled, "imported"))
    assert sent.keys() == {key.removeprefix("imported ") for key in imported}
    for key, vector in sent.items():
        assert vector @ imported[f"imported {key}"] >= 0.999
    httpx.delete(f"{filled.url}/v1/products/imported", timeout=TIMEOUT_S).raise_for_status()


def vectors(service: Service, product_id: str) -> dict[str, np.ndarray]:
    """Return the stored embeddings of a product by image and view."""
    model = httpx.get(f"{service.url}/v2/health/ready").json()["model"]
    with LocalMilvus(service.data_dir) as uri, closing(connect(MilvusConfig(), uri)) as client:
        rows = client.query(
            alias("products", model),
            filter=f"product_id == {quote(product_id)}",
            output_fields=["row_id", "vector"],
            consistency_level="Strong",
        )
    return {row["row_id"]: np.asarray(row["vector"], np.float32) for row in rows}


def test_product_is_read_as_it_was_put(filled, photos):
    name, paths = next(iter(photos.items()))
    product = get(filled, name).json()["product"]
    assert [image["image_id"] for image in product["images"]] == sorted(path.stem for path in paths)
    assert (product["title"], product["category"], product["price"]) == ({"en": f"Radio {name}"}, "Radios", None)


def test_similar_products_are_paged_without_the_product(filled, photos):
    name = list(photos)[1]
    response = get(filled, f"{name}/similar", top_k=4)
    ids, cursor = [product["product_id"] for product in response.json()["products"]], response.json()["next"]
    while cursor:
        # With what the first page was asked for, or without it.
        page = get(filled, f"{name}/similar", top_k=4, cursor=cursor)
        assert page.status_code == 200, page.text
        ids += [product["product_id"] for product in page.json()["products"]]
        cursor = page.json()["next"]
    assert sorted(ids) == sorted(set(photos) - {name})


def test_changed_product_is_shown_at_once_and_embeds_nothing_again(filled, photos):
    name, paths = list(photos.items())[2]
    changed = body(paths, price={"amount": "19.90", "currency": "EUR"}, in_stock=False, attributes={"bands": 3})
    assert put(filled, name, changed).json()["status"] == "stored"
    best = found(filled, paths[0], **{"attr.bands": "3"})[0]
    assert (best["product_id"], best["price"]["amount"], best["in_stock"]) == (name, "19.90", False)
    assert put(filled, name, changed).json()["status"] == "unchanged"


def test_image_that_is_left_out_goes_and_older_changes_are_stale(filled, photos):
    name, paths = list(photos.items())[3]
    assert put(filled, name, body(paths[:1])).json()["status"] == "stored"
    assert len(get(filled, name).json()["product"]["images"]) == 1
    assert put(filled, name, body(paths, at="2026-01-01T00:00:00Z")).json()["status"] == "stale"
    assert len(get(filled, name).json()["product"]["images"]) == 1


def test_bad_image_is_the_problem_of_its_item_alone(filled, photos):
    name, paths = list(photos.items())[4]
    broken = {"image": base64.b64encode(paths[0].read_bytes()[:2000]).decode()}
    items = [
        {"product_id": "broken", "images": [broken]},
        {"product_id": "private", "images": [{"url": "http://127.0.0.1:1/1.jpg"}]},
        body(paths, attributes={"bands": 9}) | {"product_id": name},
    ]
    response = httpx.post(f"{filled.url}/v1/products:batch", json={"items": items}, timeout=TIMEOUT_S)
    codes = [item["problem"] and item["problem"]["code"] for item in response.json()["items"]]
    assert codes == ["truncated", "url_refused", None]
    assert get(filled, "broken").json()["code"] == "unknown_product"
    assert get(filled, name).json()["product"]["attributes"] == {"bands": 9}


def test_removed_product_is_found_no_more_and_does_not_come_back(filled, photos):
    (image,) = body(next(iter(photos.values()))[:1])["images"]
    product = {"images": [{"image": image["image"]}]}
    assert put(filled, "short-lived", product | {"at": "2026-11-01T00:00:00Z"}).json()["status"] == "stored"
    url = f"{filled.url}/v1/products/short-lived"
    assert httpx.delete(url, timeout=TIMEOUT_S).json()["status"] == "deleted"
    assert get(filled, "short-lived").status_code == 404
    assert get(filled, "short-lived/similar").json()["code"] == "unknown_product"
    assert put(filled, "short-lived", product | {"at": "2026-11-02T00:00:00Z"}).json()["status"] == "stale"
    assert httpx.delete(url, timeout=TIMEOUT_S).json()["status"] == "unchanged"


def test_request_that_comes_again_takes_effect_once(filled, photos):
    name, paths = list(photos.items())[5]
    key = {"Idempotency-Key": "integration-1"}
    first = put(filled, name, body(paths, attributes={"bands": 1}), **key)
    assert put(filled, name, body(paths, attributes={"bands": 2})).json()["status"] == "stored"
    again = put(filled, name, body(paths, attributes={"bands": 1}), **key)
    assert (again.json(), again.headers["idempotent-replayed"]) == (first.json(), "true")
    assert get(filled, name).json()["product"]["attributes"] == {"bands": 2}


def test_changes_of_one_product_at_once_end_in_the_newest(filled, photos):
    (image,) = body(list(photos.values())[6][:1])["images"]

    def change(second: int) -> str:
        product = {"images": [{"image": image["image"]}], "attributes": {"second": second}}
        return put(filled, "raced", product | {"at": f"2026-11-20T10:00:0{second}Z"}).json()["status"]

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(change, [3, 9, 1, 7, 5, 8, 2, 6]))
    assert set(statuses) <= {"stored", "stale"}
    assert get(filled, "raced").json()["product"]["attributes"] == {"second": 9}


def test_many_photos_are_searched_in_one_request(filled, photos):
    searches = [{"image": base64.b64encode(paths[0].read_bytes()).decode()} for paths in list(photos.values())[:6]]
    response = httpx.post(
        f"{filled.url}/v1/search:batch", params={"objects": "whole"}, json={"searches": searches}, timeout=TIMEOUT_S
    )
    answers = [each["answer"] for each in response.json()["searches"]]
    best = [answer["objects"][0]["products"][0] for answer in answers]
    assert all(product["score"] >= 0.999 for product in best)
