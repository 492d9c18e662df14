"""Reading, changing and judging the photos that an embedder is trained with."""

import numpy as np
import pytest
from PIL import Image

from scripts.training_augment import augmented, plain
from scripts.training_photos import FOLDS, Luma, Photos, Radios, read_clothing, read_luma, read_radios
from scripts.training_protocol import joined, luma_ranks, radio_ranks

ROWS = """product_id,image,category,view,style
A-RED,a-red.jpg,Men/Tops/Tees,main,A
A-RED,a-red-back.jpg,Men/Tops/Tees,back,A
A-BLUE,a-blue.jpg,Men/Tops/Tees,alt1,A
A-BLUE,a-blue-0.jpg,Men/Tops/Tees,0,A
CARD,card.jpg,,card,CARD
"""


@pytest.fixture
def luma_folder(tmp_path):
    (tmp_path / "manifest.csv").write_text(ROWS)
    return tmp_path


def test_a_product_has_one_main_photo_and_is_asked_with_its_other_sides(luma_folder):
    luma = read_luma(luma_folder)
    assert [luma.photos.files[i].name for i in luma.gallery] == ["a-red.jpg", "a-blue-0.jpg"]
    assert [luma.photos.files[i].name for i in luma.queries] == ["a-red-back.jpg", "a-blue.jpg"]
    assert set(luma.photos.categories) == {"Men/Tops", ""}


def test_colours_of_a_style_are_in_one_fold(luma_folder):
    folds = read_luma(luma_folder).folds
    assert len(set(folds[:4])) == 1
    assert set(folds) <= set(range(FOLDS))


def test_radios_are_parted_by_model(tmp_path):
    for model in "abcd":
        for number in range(2):
            (tmp_path / f"Philips_{model}_{number}.jpg").touch()
    radios = read_radios(tmp_path)
    assert radios.choosing.sum() == 4
    assert not set(radios.photos.products[radios.choosing]) & set(radios.photos.products[~radios.choosing])


def test_folders_without_photos_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_clothing(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_radios(tmp_path)


def _photos(products):
    return Photos("made up", [], np.array(products), np.full(len(products), ""))


def test_products_are_ranked_by_their_best_photo():
    embeddings = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1]], np.float32)
    luma = Luma(_photos(["a", "b", "c", "b"]), np.zeros(4, int), np.array([0, 1, 2]), np.array([3]))
    assert luma_ranks(luma, embeddings, luma.queries).ranks.tolist() == [2]


def test_a_radio_does_not_find_itself_and_a_product_counts_once():
    embeddings = np.array([[1, 0], [0.99, 0.14], [0.98, 0.2], [0, 1]], np.float32)
    radios = Radios(_photos(["a", "b", "b", "a"]), np.ones(4, bool))
    assert radio_ranks(radios, embeddings).ranks.tolist() == [2, 1, 1, 2]


def test_a_tie_is_no_hit():
    embeddings = np.array([[1, 0], [1, 0], [1, 0]], np.float32)
    luma = Luma(_photos(["a", "b", "a"]), np.zeros(3, int), np.array([0, 1]), np.array([2]))
    ranks = luma_ranks(luma, embeddings, luma.queries)
    assert ranks.ranks.tolist() == [2]
    assert joined([ranks, ranks]).figures()["R@1"].value == 0
    assert joined([ranks, ranks]).figures()["R@5"].value == 1


@pytest.fixture
def photos(tmp_path):
    """Return a photo with a plain background, and one without."""
    product = np.full((160, 120, 3), 255, np.uint8)
    product[40:120, 30:90] = (200, 30, 30)
    noise = np.random.default_rng(0).integers(0, 255, (100, 140, 3)).astype(np.uint8)
    for name, pixels in (("product.png", product), ("noise.png", noise)):
        Image.fromarray(pixels).save(tmp_path / name)
    return [tmp_path / "product.png", tmp_path / "noise.png"]


def test_a_copy_is_the_same_whenever_it_is_made(photos):
    for path in photos:
        first = augmented(path, 1, photos[1:], 0)
        assert first.shape == plain(path).shape
        np.testing.assert_array_equal(first, augmented(path, 1, photos[1:], 0))
        assert (first != augmented(path, 2, photos[1:], 0)).any()
        assert (first != augmented(path, 1, photos[1:], 1)).any()


def test_products_come_on_clutter_in_their_own_colour(photos):
    copies = [augmented(photos[0], number, photos[1:], 0) for number in range(20)]
    on_white = [copy for copy in copies if (copy.min(axis=2) > 230).mean() > 0.05]
    assert 5 < len(on_white) < 20
    for copy in copies:
        red, green, blue = np.median(copy[90:134, 90:134].reshape(-1, 3), axis=0)
        assert red > 2 * max(green, blue)
