import pytest

from serve_app.catalogue.manifest import Entry
from serve_app.config import load_config
from serve_app.domain import Box
from serve_app.errors import BadManifest
from serve_app.evaluation.gallery import Gallery, read_gallery
from serve_app.evaluation.photos import Photos
from serve_app.evaluation.questions import (
    first_views,
    hardened,
    leave_one_view_out,
    read_questions,
    sample,
)
from serve_app.evaluation.splitting import GALLERY, QUERIES, write_split


def gallery(**views: int) -> Gallery:
    entries = [
        Entry(0, f"{product}{i}.jpg", product, f"{product}{i}", parent_id="style" if product in "ab" else "")
        for product, number in views.items()
        for i in range(number)
    ]
    return Gallery(entries, "/photos")


def write(path, text):
    path.write_text(text)
    return path


def test_each_view_is_asked_for_the_others_of_its_product():
    asked = leave_one_view_out(gallery(a=2, b=1, c=3))
    assert [(each.image, each.right, set(each.left_out)) for each in asked.questions][:2] == [
        ("a0.jpg", ("a",), {"a0"}),
        ("a1.jpg", ("a",), {"a1"}),
    ]
    assert len(asked.questions) == 5
    assert len(asked.gallery.images) == 6


def test_first_views_are_the_gallery_and_all_others_are_asked():
    asked = first_views(gallery(a=2, b=1, c=3))
    assert set(asked.gallery.images) == {"a0", "b0", "c0"}
    assert [each.image for each in asked.questions] == ["a1.jpg", "c1.jpg", "c2.jpg"]


def test_a_catalogue_of_single_images_says_what_to_give():
    with pytest.raises(BadManifest, match="--queries"):
        leave_one_view_out(gallery(a=1, b=1))


def test_rows_of_one_photo_are_its_right_products(tmp_path):
    path = write(
        tmp_path / "rooms.csv", "image,product_id,x0,y0,x1,y1,left_out\nr.jpg,a,0,0,.5,1,a1\nr.jpg,b,.5,0,1,1,b1\n"
    )
    (scene,) = read_questions(path, gallery(a=2, b=2)).questions
    assert scene.right == ("a", "b")
    assert scene.is_scene
    assert scene.line == "rooms"
    assert scene.left_out == {"a1", "b1"}
    assert scene.boxes["a"] == Box(0, 0, 0.5, 1)


def test_photos_whose_product_is_not_in_the_gallery_are_counted_out(tmp_path):
    path = write(tmp_path / "q.csv", "image,product_id\n1.jpg,a\n2.jpg,gone\n")
    asked = read_questions(path, gallery(a=1))
    assert (len(asked.questions), asked.unanswerable) == (1, 1)


def test_a_product_of_nothing_but_left_out_images_is_no_right_answer(tmp_path):
    path = write(tmp_path / "q.csv", "image,product_id,left_out\n1.jpg,a,a0\n")
    with pytest.raises(BadManifest, match="no photo has its product"):
        read_questions(path, gallery(a=1))


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("image,product_id,x0,y0,x1,y1\n1.jpg,a,0,0,2,1\n", "0…1"),
        ("image,product_id,x0,y0,x1\n1.jpg,a,0,0,1\n", "whole box"),
        ("image,product_id\n1.jpg,\n", "product_id is missing"),
        ("image,product_id\n", "no photo"),
    ],
)
def test_a_query_set_with_a_bad_row_is_refused(tmp_path, rows, reason):
    with pytest.raises(BadManifest, match=reason):
        read_questions(write(tmp_path / "q.csv", rows), gallery(a=1))


def test_a_folder_is_a_query_set(tmp_path):
    (tmp_path / "shop/a").mkdir(parents=True)
    (tmp_path / "shop/a/1.jpg").touch()
    (question,) = read_questions(tmp_path / "shop", gallery(a=1)).questions
    assert (question.image, question.right, question.line) == ("a/1.jpg", ("a",), "shop")


def test_hard_photos_get_lines_of_their_own():
    questions = hardened(leave_one_view_out(gallery(a=2)).questions, ("cut", "blur"))
    assert [(each.line, each.change, each.image) for each in questions] == [
        ("cut", "cut", "a0.jpg"),
        ("cut", "cut", "a1.jpg"),
        ("blur", "blur", "a0.jpg"),
        ("blur", "blur", "a1.jpg"),
    ]


def test_a_sample_keeps_its_photos_when_the_set_grows():
    small, large = leave_one_view_out(gallery(a=8)).questions, leave_one_view_out(gallery(a=8, c=3)).questions
    kept = {each.image for each in sample(small, 4)}
    assert len(kept) == 4
    assert len({each.image for each in sample(large, 6)} & kept) >= 3


def test_styles_in_other_colours_are_worth_something():
    found = gallery(a=2, b=1, c=1)
    (question, _) = leave_one_view_out(found).questions
    assert found.grades(question) == {"a": 3, "b": 1}


def test_nothing_that_is_left_out_is_worth_anything():
    found = gallery(a=2, b=1)
    (question, _) = leave_one_view_out(found).questions
    assert found.without(["b0"]).grades(question) == {"a": 3}


def test_a_split_without_copies_reads_back_with_the_same_ids_and_whole_places(tmp_path):
    manifest = write(
        tmp_path / "shop.csv",
        "image,product_id,title,price,currency,fit\n1.jpg,a,Shirt,9.90,EUR,slim\n2.jpg,a,Shirt,,,\n3.jpg,b,,,,\n4.jpg,a,,,,\n",
    )
    for name, content in (("1", b"a"), ("2", b"another"), ("3", b"a"), ("4", b"a")):
        (tmp_path / f"{name}.jpg").write_bytes(content)
    whole, _ = read_gallery(manifest)
    with Photos(load_config(data_dir=tmp_path)) as photos:
        assert write_split(whole, tmp_path / "set", photos) == (2, 1)
    kept, problems = read_gallery(tmp_path / "set" / GALLERY)
    assert problems == []
    assert set(kept.images) == {whole.entries[0].image_id, whole.entries[2].image_id}
    assert kept.entries[0].image == str(tmp_path / "1.jpg")
    assert (kept.entries[0].price, dict(kept.entries[0].attributes)) == (990, {"fit": "slim"})
    (question,) = read_questions(tmp_path / "set" / QUERIES, kept).questions
    assert (question.image, question.left_out) == (str(tmp_path / "2.jpg"), {whole.entries[1].image_id})
