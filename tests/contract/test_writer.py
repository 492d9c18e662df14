"""Writes can be killed and repeated on every engine."""

import asyncio
import time
from typing import Any

import numpy as np
import pytest

from scripts.measuring import wait_until
from serve_app.collection import KnownImage, Row, row_id
from serve_app.domain import View
from serve_app.errors import BadInput, IndexMissing
from serve_app.milvus.writer import MilvusWriter
from tests.contract.engines import CONFIG, Index, wire
from tests.contract.rows import embedding, row

BOTH = frozenset({"whole", "object"})
WHOLE = frozenset({"whole"})


def both(image_id: str, **values: Any) -> list[Row]:
    return [row(image_id, View.WHOLE, **values), row(image_id, View.OBJECT, **values)]


def newer(image_id: str, **values: Any) -> dict[str, Any]:
    return {"image_sha256": "2" * 64, "row_sha256": "3" * 64, "updated_at": 2_000, **values}


def stored(index: Index, image_id: str) -> list[dict[str, Any]]:
    """Return all that the engine holds of an image, found by anything but its keys."""
    rows: list[dict[str, Any]] = index.client.query(
        index.alias, filter=f'product_id == "product of {image_id}"', output_fields=["*"], consistency_level="Strong"
    )
    return rows


def test_a_written_image_is_known_at_once(index: Index) -> None:
    index.writer().write(both("known", updated_at=5, category_root="Men"))
    assert index.writer().known(["known", "unknown"]) == {"known": KnownImage("1" * 64, "1" * 64, "Men", 5, BOTH)}


def test_what_was_written_before_a_time_is_known_without_waiting_for_what_came_later(index: Index) -> None:
    index.writer().write(both("before"))
    start_ms = time.time_ns() // 10**6
    known = index.writer().known(["before"], before_ms=start_ms)
    assert set(known) == {"before"}


def test_the_nearest_pictures_are_told_with_their_scores(index: Index) -> None:
    first, second = row("picture", phash="f" * 16), row("other picture", phash="0" * 16, duplicate_of="first")
    index.writer().write([first, second])
    found = index.writer().nearest([first.vector, second.vector], 1)
    assert [[hit["image_id"] for hit in hits] for hits in found] == [["picture"], ["other picture"]]
    ((best,), (other,)) = found
    assert best["score"] == pytest.approx(1, abs=1e-5)
    assert (best["phash"], other["phash"]) == ("f" * 16, "0" * 16)
    assert (best["view"], other["duplicate_of"]) == ("whole", "first")
    assert index.writer().nearest([], 1) == []


def test_the_data_of_known_images_is_given(index: Index) -> None:
    index.writer().write(both("with data", data={"origin": ["https://shop.example/1.jpg", '"e"', ""]}))
    found = index.writer().data(["with data", "unknown"])
    assert found == {"with data": {"origin": ["https://shop.example/1.jpg", '"e"', ""]}}


def test_all_rows_can_be_scanned(index: Index) -> None:
    index.writer().write([*both("scanned"), *both("scanned too")])
    wanted = {"scanned#whole", "scanned#object", "scanned too#whole", "scanned too#object"}

    def found() -> bool:
        return {each["row_id"] for rows in index.writer().scan(["row_id"]) for each in rows} >= wanted

    wait_until(found, timeout_s=30, what="rows in a scan")


def test_many_images_take_several_calls(index: Index) -> None:
    image_ids = [f"many-{number}" for number in range(700)]
    index.writer().write([row(image_id) for image_id in image_ids])
    assert set(index.writer().known(image_ids)) == set(image_ids)


def test_rows_are_given_back_to_be_written_again(index: Index) -> None:
    rows = both("kept", data={"label": "chair"})
    index.writer().write(rows)
    found = index.writer().stored(["kept", "unknown"])
    assert set(found) == {"kept"}
    assert set(found["kept"]) == set(View)
    for old in rows:
        np.testing.assert_allclose(found["kept"][old.view]["vector"], old.vector, atol=1e-6)
        assert found["kept"][old.view]["data"] == {"label": "chair"}


def test_every_field_is_stored(index: Index) -> None:
    full = row(
        "full",
        parent_id="parent",
        phash="f0",
        duplicate_of="other",
        feed="spring",
        in_stock=False,
        price=2**53,
        data={"title": {"de": "Stühle"}, "box": [0.1, 0.2, 0.3, 0.4], "none": None},
    )
    index.writer().write([full])
    (found,) = stored(index, "full")
    vector = found.pop("vector")
    expected = full.values()
    np.testing.assert_allclose(vector, expected.pop("vector"), atol=1e-6)
    assert found == expected


def test_writing_again_replaces(index: Index) -> None:
    index.writer().write([row("again")])
    index.writer().write([row("again", vector=embedding("new"), **newer("again"))])
    (found,) = stored(index, "again")
    np.testing.assert_allclose(found["vector"], embedding("new"), atol=1e-6)
    assert index.writer().known(["again"])["again"].image_sha256 == "2" * 64


def test_writing_the_same_twice_changes_nothing(index: Index) -> None:
    rows = both("same")
    index.writer().write([*rows, *rows])
    index.writer().write(rows)
    assert len(stored(index, "same")) == 2


def test_a_view_that_an_image_no_longer_has_vanishes(index: Index) -> None:
    index.writer().write(both("shrunk"))
    index.writer().write([row("shrunk", **newer("shrunk"))])
    assert [found["view"] for found in stored(index, "shrunk")] == ["whole"]
    assert index.writer().known(["shrunk"])["shrunk"].views == WHOLE


@pytest.mark.parametrize("category", ["Women", "Kids", "Home", "Garden", "", "Stühle"])
def test_a_product_that_changes_category_stays_once(index: Index, category: str) -> None:
    image_id = f"moved to {category}"
    index.writer().write(both(image_id))
    index.writer().write(both(image_id, **newer(image_id, category_root=category)))
    rows = stored(index, image_id)
    assert sorted((found["view"], found["category_root"]) for found in rows) == (
        [("object", category), ("whole", category)]
    )


def test_an_older_event_never_overwrites_a_newer(index: Index) -> None:
    index.writer().write([row("late", **newer("late"))])
    index.writer().write(both("late", updated_at=1_999))
    assert index.writer().known(["late"])["late"].updated_at == 2_000
    assert len(stored(index, "late")) == 1


def test_the_newest_event_of_one_call_wins(index: Index) -> None:
    index.writer().write([row("order", **newer("order")), *both("order")])
    assert index.writer().known(["order"])["order"] == KnownImage("2" * 64, "3" * 64, "Men", 2_000, WHOLE)


def test_deleted_images_are_gone(index: Index) -> None:
    index.writer().write([*both("gone"), *both("kept")])
    index.writer().delete(["gone", "never there"])
    assert set(index.writer().known(["gone", "kept"])) == {"kept"}
    assert stored(index, "gone") == []


def test_count_follows_writes_and_deletes(index: Index) -> None:
    before = index.writer().count()
    index.writer().write([*both("one"), row("two")])
    assert index.writer().count() == before + 3
    index.writer().delete(["one"])
    assert index.writer().count() == before + 1


def test_a_row_that_cannot_be_stored_stops_the_call_before_anything_is_written(index: Index) -> None:
    with pytest.raises(BadInput, match="category of 'long' takes 513 bytes; at most 512"):
        index.writer().write([row("short"), row("long", category="x" * 513)])
    assert index.writer().known(["short"]) == {}


def test_the_longest_texts_fit(index: Index) -> None:
    longest = row("ü" * 76, category="ü" * 256, product_id="product of longest", data={"text": "ü" * 32_000})
    index.writer().write([longest])
    (found,) = stored(index, "longest")
    assert (found["row_id"], found["category"]) == (longest.row_id, longest.category)


def test_an_image_without_a_whole_view_is_refused(index: Index) -> None:
    with pytest.raises(BadInput, match="no row for the view `whole`"):
        index.writer().write([row("half", View.OBJECT)])


class KilledError(Exception):
    pass


class Dying:
    """Pass calls on to a client, and die after so many acknowledged writes."""

    def __init__(self, client: Any, writes: int) -> None:
        self._client = client
        self._left = writes

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name not in {"upsert", "delete"}:
            return method

        def call(*args: Any, **kwargs: Any) -> Any:
            if self._left == 0:
                raise KilledError
            self._left -= 1
            return method(*args, **kwargs)

        return call


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_killed_write_is_seen_and_repeated(index: Index, writes: int) -> None:
    image_id = f"killed after {writes}"
    index.writer().write(both(image_id))
    wanted = both(image_id, **newer(image_id, category_root="Women"))
    with pytest.raises(KilledError):
        MilvusWriter(Dying(index.client, writes), index.alias, CONFIG).write(wanted)
    known = index.writer().known([image_id]).get(image_id)
    assert known is None or known.row_sha256 != "3" * 64
    index.writer().write(wanted)
    assert sorted(found["row_id"] for found in stored(index, image_id)) == sorted(row_id(image_id, v) for v in View)
    assert index.writer().known([image_id])[image_id].row_sha256 == "3" * 64


async def test_a_lost_connection_is_waited_for(index: Index) -> None:
    from serve_app.milvus.client import connect

    async with wire(index.engine.uri) as line:
        client = await asyncio.to_thread(connect, CONFIG, line.uri)
        writer = MilvusWriter(client, index.alias, CONFIG)
        await line.cut()
        writing = asyncio.create_task(asyncio.to_thread(writer.write, [row("patient")]))
        done, _ = await asyncio.wait([writing], timeout=0.5)
        assert not done
        await line.mend()
        await writing
        client.close()
    assert set(index.writer().known(["patient"])) == {"patient"}


def test_a_missing_alias_is_not_waited_for(index: Index) -> None:
    with pytest.raises(IndexMissing, match="shoplens import"):
        MilvusWriter(index.client, "no_such_alias", CONFIG).known(["any"])
