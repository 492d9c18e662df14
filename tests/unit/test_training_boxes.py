import json

import pytest

from scripts.training_boxes import read_sets, write_set
from serve_app.errors import BadManifest
from serve_app.evaluation.boxes import read_boxes

BOX = [10, 20, 30, 40]


def coco(folder, number=40, name="boxes.json", label="sofa", boxes=(BOX,)):
    folder.mkdir(parents=True, exist_ok=True)
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 100, "height": 100} for i in range(number)]
    annotations = [{"image_id": i, "category_id": 1, "bbox": box} for i in range(number) for box in boxes]
    path = folder / name
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": label}]})
    )
    return path


def test_a_share_is_held_back_by_names_alone(tmp_path):
    sets = read_sets(coco(tmp_path), None, 0.25)
    assert len(sets.train) + len(sets.val) == 40
    assert 4 <= len(sets.val) <= 16
    assert not {photo.image for photo in sets.train} & {photo.image for photo in sets.val}
    more = read_sets(coco(tmp_path / "more", 60), None, 0.25)
    assert {photo.image.name for photo in sets.val} <= {photo.image.name for photo in more.val}


def test_a_set_to_measure_with_is_taken_whole(tmp_path):
    sets = read_sets(coco(tmp_path), coco(tmp_path, 3, "val.json"), 0.25)
    assert (len(sets.train), len(sets.val)) == (40, 3)


def test_what_is_written_reads_back_with_the_shop_s_categories(tmp_path):
    classes = {"sofa": "Home/Seats"}
    sets = read_sets(coco(tmp_path), None, 0.25, classes=classes)
    described = write_set(sets, tmp_path / "set")
    for part, photos in (("train", sets.train), ("val", sets.val)):
        read = read_boxes(described, part=part)
        assert [photo.image.readlink() for photo in read] == [photo.image for photo in photos]
        for one, other in zip(read, photos, strict=True):
            assert [thing.label for thing in one.things] == ["Home/Seats"]
            assert one.things[0].box.as_tuple() == pytest.approx(other.things[0].box.as_tuple(), abs=1e-5)


def test_any_other_box_makes_another_set(tmp_path):
    one = read_sets(coco(tmp_path), None, 0.25)
    assert one.digest() == read_sets(coco(tmp_path), None, 0.25).digest()
    assert one.digest() != read_sets(coco(tmp_path, boxes=([10, 20, 30, 41],)), None, 0.25).digest()
    assert one.digest() != read_sets(coco(tmp_path), None, 0.5).digest()


def test_nothing_to_measure_with_says_so(tmp_path):
    with pytest.raises(BadManifest, match="no box to val with"):
        read_sets(coco(tmp_path), None, 0.0)
