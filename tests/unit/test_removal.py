"""Which images a full feed takes out of the index."""

import pytest

from serve_app.catalogue.comparing import Event
from serve_app.catalogue.removal import remove_gone
from serve_app.errors import TooMuchGone
from tests.unit.feed_fakes import FakeTombstones

EVENT = Event(at_ms=1000, feed="main")


class FakeIndex:
    def __init__(self, rows):
        self.rows = {row["row_id"]: row for row in rows}

    def scan(self, fields):
        rows = list(self.rows.values())
        for start in range(0, len(rows), 3):
            yield [{name: row[name] for name in fields} for row in rows[start : start + 3]]

    def delete(self, image_ids):
        for image_id in image_ids:
            for view in ("whole", "object"):
                self.rows.pop(f"{image_id}#{view}", None)


def row(image_id, view="whole", feed="main", updated_at=500):
    return {"row_id": f"{image_id}#{view}", "image_id": image_id, "view": view, "feed": feed, "updated_at": updated_at}


def manifest(tmp_path, *lines):
    path = tmp_path / "m.csv"
    path.write_text("\n".join(["image,product_id,image_id,price,currency", *lines]) + "\n")
    return path


def full(ids):
    return FakeIndex([row(each, view) for each in ids for view in ("whole", "object")])


def test_images_that_are_no_longer_named_go_with_all_their_views(tmp_path):
    index, tombstones = full("abcd"), FakeTombstones()
    named = manifest(tmp_path, "1,p,a,,", "1,p,b,,", "1,p,d,,")
    assert remove_gone(index, tombstones, named, EVENT, most_share=0.5, surely=False) == 1
    assert {each["image_id"] for each in index.rows.values()} == {"a", "b", "d"}
    assert tombstones.times == {"image:c": EVENT.at_ms}


def test_what_a_bad_row_names_stays(tmp_path):
    index = full("ab")
    assert (
        remove_gone(
            index,
            FakeTombstones(),
            manifest(tmp_path, "1,p,a,cheap,EUR", "1,p,b,,"),
            EVENT,
            most_share=0.0,
            surely=False,
        )
        == 0
    )


def test_other_feeds_and_newer_events_are_none_of_its_business(tmp_path):
    index = FakeIndex([row("a"), row("other", feed="x"), row("new", updated_at=1001)])
    remove_gone(index, FakeTombstones(), manifest(tmp_path, "1,p,a,,"), EVENT, most_share=0.0, surely=False)
    assert len(index.rows) == 3


def test_too_much_is_refused_before_anything_is_removed(tmp_path):
    index = full("abcd")
    with pytest.raises(TooMuchGone, match=r"2 of the feed's 4 images .* 25%.*--yes"):
        remove_gone(
            index, FakeTombstones(), manifest(tmp_path, "1,p,a,,", "1,p,b,,"), EVENT, most_share=0.25, surely=False
        )
    assert len(index.rows) == 8
    assert remove_gone(index, FakeTombstones(), manifest(tmp_path, "1,p,a,,"), EVENT, most_share=1.0, surely=True) == 3


def test_a_row_that_can_not_be_read_may_name_anything(tmp_path):
    index = full("ab")
    path = manifest(tmp_path, "1,p,a,,", ",,,,")
    with pytest.raises(TooMuchGone, match="1 rows can't be read"):
        remove_gone(index, FakeTombstones(), path, EVENT, most_share=1.0, surely=False)
    assert remove_gone(index, FakeTombstones(), path, EVENT, most_share=1.0, surely=True) == 1
