"""Manifests as people write them: what is read, what is refused, what is left out with its reason."""

import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from pyiceberg.catalog.sql import SqlCatalog

from serve_app.catalogue.manifest import Entry, Problem, count, entry, read
from serve_app.collection import default_image_id
from serve_app.errors import BadManifest


def written(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def only(path):
    (found,) = read(path)
    return found


def test_csv_row_becomes_an_entry(tmp_path):
    path = written(
        tmp_path / "m.csv",
        "image,product_id,image_id,parent_id,title,title_de,category,price,currency,in_stock,colour\n"
        "a/1.jpg,7,seven,70,Chair,Stuhl, Home / Chairs ,19.90,EUR,no,red\n",
        encoding="utf-8-sig",
    )
    assert only(path) == Entry(
        row=2,
        image="a/1.jpg",
        product_id="7",
        image_id="seven",
        parent_id="70",
        title="Chair",
        titles={"de": "Stuhl"},
        category="Home/Chairs",
        price=1990,
        currency="EUR",
        in_stock=False,
        attributes={"colour": "red"},
    )


def test_what_is_absent_has_its_default(tmp_path):
    entry = only(written(tmp_path / "m.csv", "image,product_id,price,in_stock,colour\n1.jpg,7,,,\n"))
    assert entry == Entry(row=2, image="1.jpg", product_id="7", image_id=default_image_id("7", "1.jpg"))
    assert (entry.price, entry.in_stock, entry.title) == (-1, True, None)


def test_a_title_in_one_language_is_the_title_where_there_is_no_other(tmp_path):
    assert only(written(tmp_path / "m.csv", "image,product_id,title_fr\n1.jpg,7,Chaise\n")).title == "Chaise"


def test_json_lines_keep_the_types_of_attributes(tmp_path):
    values = {
        "size": 3,
        "weight": 1.5,
        "new": True,
        "tags": ["a", "b"],
        "nothing": None,
        "price": 19.9,
        "currency": "EUR",
    }
    line = json.dumps({"image": "1.jpg", "product_id": 7} | values)
    entry = only(written(tmp_path / "m.jsonl", f"\n{line}\n"))
    assert entry.attributes == {"size": 3, "weight": 1.5, "new": True, "tags": ["a", "b"]}
    assert (entry.row, entry.product_id, entry.price) == (2, "7", 1990)


def test_parquet_rows_are_read(tmp_path):
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table(
        {
            "image": ["1.jpg", "2.jpg"],
            "product_id": [7.0, None],
            "price": [Decimal("19.90"), None],
            "currency": ["EUR", None],
            "stars": [4.5, float("nan")],
        }
    )
    parquet.write_table(table, tmp_path / "m.parquet")
    first, second = read(tmp_path / "m.parquet")
    assert (first.product_id, first.price, first.attributes) == ("7", 1990, {"stars": 4.5})
    assert (second.row, second.reason) == (2, "product_id is missing")


def test_folder_has_products_as_folders_and_as_files(tmp_path):
    for name in ("b/2.jpg", "b/1.PNG", "a.jpg", "b/notes.txt", ".hidden/1.jpg", "b/deep/1.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = list(read(tmp_path))
    entries = [entry for entry in found if isinstance(entry, Entry)]
    assert [(e.image, e.product_id) for e in entries] == [("a.jpg", "a"), ("b/1.PNG", "b"), ("b/2.jpg", "b")]
    assert [p.reason for p in found if isinstance(p, Problem)] == [
        "b/deep is a folder inside a product's folder; move its images up"
    ]
    assert count(tmp_path) == 4


@pytest.mark.parametrize(
    ("cells", "code", "says"),
    [
        (",7,,,", "bad_row", "image is missing"),
        ("1.jpg,,,,", "bad_row", "product_id is missing"),
        ("1.jpg,7,19 dollars,USD,", "bad_price", "no number"),
        ("1.jpg,7,19,BUCKS,", "bad_price", "no currency"),
        ("1.jpg,7,,BUCKS,", "bad_price", "no currency"),
        ("1.jpg,7,19,,", "bad_price", "add a column currency"),
        ("1.jpg,7,19.999,EUR,", "bad_price", "decimals"),
        ("1.jpg,7,-1,EUR,", "bad_price", "no amount"),
        ("1.jpg,7,,,perhaps", "bad_in_stock", "write true or false"),
        ("ftp://shop.example/1.jpg,7,,,", "url_unsupported", "known are http"),
        ("0.jpg,0,,,", "duplicate_image_id", "earlier row"),
        ("1.jpg,7,,,,,", "bad_row", "7 cells"),
    ],
)
def test_a_bad_row_is_a_problem_and_the_others_are_read(tmp_path, cells, code, says):
    text = f"image,product_id,price,currency,in_stock\n0.jpg,0,,,\n{cells}\n2.jpg,8,,,\n"
    before, problem, after = read(written(tmp_path / "m.csv", text))
    assert (before.product_id, after.product_id) == ("0", "8")
    assert (problem.row, problem.code) == (3, code)
    assert says in problem.reason


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"image": "1.jpg", "product_id": "\\ud800"}',
        '{"image": "1.jpg", "product_id": true}',
        '{"image": "1.jpg", "product_id": {}}',
        '{"image": "1.jpg", "product_id": "7", "x": NaN}',
        "[" * 100_000,
    ],
    ids=["cut", "list", "half character", "boolean", "object", "NaN", "deep"],
)
def test_a_bad_line_is_a_problem_and_the_others_are_read(tmp_path, line):
    good = '{"image": "0.jpg", "product_id": "0"}'
    first, problem, last = read(written(tmp_path / "m.jsonl", f"{good}\n{line}\n{good.replace('0', '2')}\n"))
    assert (first.product_id, problem.row, problem.code, last.product_id) == ("0", 2, "bad_row", "2")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("m.csv", "", "is empty"),
        ("m.csv", "image,product_id\n", "no rows"),
        ("m.csv", "image;product_id\n1.jpg;7\n", "lacks the columns image and product_id"),
        ("m.csv", "image,title\n1.jpg,x\n", "lacks the column product_id; it has image, title"),
        ("m.csv", "image,product_id,image\n", "column image twice"),
        ("m.csv", "image,product_id\n1.jpg,\xe9\n", "isn't written in UTF-8"),
        ("m.jsonl", '{"image": "1.jpg"}\n', "lacks the column product_id"),
        ("m.parquet", "PAR1", "can't be read as Parquet"),
        ("m.xlsx", "", "tells no format"),
    ],
)
def test_what_is_no_manifest_is_refused_with_the_way_on(tmp_path, name, text, says):
    with pytest.raises(BadManifest, match=says):
        count(written(tmp_path / name, text, encoding="latin-1"))


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_a_path_without_images_is_refused(tmp_path, name):
    with pytest.raises(BadManifest, match=r"doesn't exist|no image in it"):
        count(tmp_path / name)


ROWS = [{"image": "1.jpg", "product_id": "7", "price": "19.90", "currency": "EUR", "size": 38}, {"image": "2.jpg"}]


def test_the_newest_version_of_a_delta_table_is_read(tmp_path):
    write_deltalake(tmp_path / "t", pa.table({"image": ["0.jpg"], "product_id": ["0"]}))
    write_deltalake(tmp_path / "t", pa.Table.from_pylist(ROWS), mode="overwrite", schema_mode="overwrite")
    entry, problem = read(tmp_path / "t")
    assert (entry.image, entry.price, entry.attributes) == ("1.jpg", 1990, {"size": 38})
    assert (problem.row, problem.code) == (2, "bad_row")


def test_the_current_snapshot_of_an_iceberg_table_is_read(tmp_path):
    catalog = SqlCatalog("shop", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}/warehouse")
    catalog.create_namespace("shop")
    rows = pa.Table.from_pylist(ROWS)
    table = catalog.create_table("shop.products", schema=rows.schema)
    table.append(rows)
    entry, problem = read(Path(table.metadata_location.removeprefix("file://")))
    assert (entry.image, entry.price, entry.attributes) == ("1.jpg", 1990, {"size": 38})
    assert (problem.row, problem.code) == (2, "bad_row")


@pytest.mark.parametrize("name", ["t", "t.metadata.json"])
def test_a_table_that_is_none_is_refused(tmp_path, name):
    path = tmp_path / name
    if name == "t":
        (path / "_delta_log").mkdir(parents=True)
    else:
        path.write_text("{}")
    with pytest.raises(BadManifest, match="can't be read as"):
        list(read(path))


def test_a_row_can_be_said_again():
    values = {
        "image": "https://shop.example/1.jpg", "product_id": "7", "image_id": "i", "parent_id": "p", "title": "Chair",
        "title_de": "Stuhl", "category": "Home/Chairs", "price": "19.90", "currency": "EUR", "in_stock": False,
        "size": 38,
    }  # fmt: skip
    said = entry(3, values)
    assert said.columns() == values
    assert entry(3, said.columns()) == said


def test_a_problem_knows_its_image_where_that_can_be_told():
    assert (
        entry(1, {"image": "1.jpg", "product_id": "7", "image_id": "i", "price": "x", "currency": "EUR"}).image_id
        == "i"
    )
    assert entry(1, {"image": "", "product_id": "7"}).image_id == ""
    assert entry(1, "the line is no JSON").image_id == ""
