import json

import pytest

from serve_app.domain import Box
from serve_app.errors import BadManifest
from serve_app.evaluation.boxes import parts_of, read_boxes, read_classes
from serve_app.evaluation.detections import Thing


def yolo(
    folder, lines="1 0.5 0.5 0.2 0.4\n", data="path: .\ntrain: images/train\nval: images/val\nnames: [chair, lamp]\n"
):
    for part in ("train", "val"):
        (folder / "images" / part).mkdir(parents=True)
        (folder / "labels" / part).mkdir(parents=True)
    (folder / "images/val/a.jpg").write_bytes(b"")
    (folder / "images/val/empty.png").write_bytes(b"")
    (folder / "labels/val/a.txt").write_text(lines)
    path = folder / "data.yaml"
    path.write_text(data)
    return path


def coco(folder, **changes):
    document = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 200, "height": 100}],
        "categories": [{"id": 3, "name": "lamp"}],
        "annotations": [{"image_id": 7, "category_id": 3, "bbox": [80, 30, 40, 40]}],
    } | changes
    path = folder / "boxes.json"
    path.write_text(json.dumps(document))
    return path


def edges(thing: Thing) -> list[float]:
    return [round(edge, 6) for edge in thing.box.as_tuple()]


def test_yolo_and_coco_tell_the_same_box(tmp_path):
    photo, empty = read_boxes(yolo(tmp_path))
    (other,) = read_boxes(coco(tmp_path), images=tmp_path / "images/val")
    assert photo.image == other.image == tmp_path / "images/val/a.jpg"
    assert [edges(each) for each in photo.things] == [edges(each) for each in other.things] == [[0.4, 0.3, 0.6, 0.7]]
    assert photo.things[0].label == other.things[0].label == "lamp"
    assert empty.things == ()


def test_names_may_stand_by_number_and_photos_in_a_list(tmp_path):
    data = "val: [val.txt]\nnames: {0: chair, 1: lamp}\n"
    path = yolo(tmp_path, data=data)
    (tmp_path / "val.txt").write_text("./images/val/a.jpg\n")
    (photo,) = read_boxes(path)
    assert photo.things[0].label == "lamp"
    assert parts_of(path) == ("val",)


def test_an_outline_counts_by_the_box_around_it(tmp_path):
    (photo, _) = read_boxes(yolo(tmp_path, "0 0.1 0.2 0.5 0.1 0.3 0.6\n"))
    assert photo.things == (Thing(Box(0.1, 0.1, 0.5, 0.6), "chair"),)


def test_a_crowd_is_told(tmp_path):
    crowd = {"image_id": 7, "category_id": 3, "bbox": [0, 0, 200, 100], "iscrowd": 1}
    (photo,) = read_boxes(coco(tmp_path, annotations=[crowd]))
    assert photo.things == (Thing(Box(0, 0, 1, 1), "lamp", crowd=True),)


def test_what_oversteps_the_photo_is_cut_there(tmp_path):
    (photo, _) = read_boxes(yolo(tmp_path, "0 0.95 0.5 0.2 1.00001\n"))
    assert edges(photo.things[0]) == [0.85, 0, 1, 1]


@pytest.mark.parametrize(
    "line", ["0 0.5 0.5 0.2", "2 0.5 0.5 0.2 0.2", "0 0.5 0.5 0 0.2", "0 a 0.5 0.2 0.2", "0 1 1 2 2 3", "0 3 3 0.1 0.1"]
)
def test_a_wrong_line_is_named(tmp_path, line):
    with pytest.raises(BadManifest, match=r"line 2 of .*a\.txt is no"):
        read_boxes(yolo(tmp_path, f"0 0.5 0.5 0.1 0.1\n{line}\n"))


@pytest.mark.parametrize("changes", [{"annotations": [{"image_id": 8}]}, {"images": None}])
def test_a_wrong_coco_file_is_named(tmp_path, changes):
    with pytest.raises(BadManifest, match=r"boxes\.json is no set of boxes"):
        read_boxes(coco(tmp_path, **changes))


def test_a_set_without_the_part_says_so(tmp_path):
    path = yolo(tmp_path, data="val: images/val\nnames: [chair, lamp]\n")
    with pytest.raises(BadManifest, match="part 'train'"):
        read_boxes(path, part="train")


def test_labels_become_categories_and_some_are_left_out(tmp_path):
    path = yolo(tmp_path, "0 0.2 0.2 0.1 0.1\n1 0.5 0.5 0.1 0.1\n")
    classes = tmp_path / "classes.yaml"
    classes.write_text("chair: Home/Seats\nlamp:\n")
    photo, _ = read_boxes(path, classes=read_classes(classes))
    assert [thing.label for thing in photo.things] == ["Home/Seats"]
    with pytest.raises(BadManifest, match="boxes of lamp, which the class map lacks"):
        read_boxes(path, classes={"chair": "Home/Seats"})


def test_a_class_map_of_something_else_is_refused(tmp_path):
    classes = tmp_path / "classes.yaml"
    classes.write_text("chair: [Home, Seats]\n")
    with pytest.raises(BadManifest, match="label: category"):
        read_classes(classes)
