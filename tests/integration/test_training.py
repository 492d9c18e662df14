"""What a head is fitted to, and what is kept of photos for it."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from scripts.training_augment import plain
from scripts.training_cache import POOLED, WIDTH, Cache, Copy
from scripts.training_head import Recipe, Set, frozen, main_directions, projection, scaled_down, select, unprojected
from scripts.training_heads import save
from scripts.training_photos import Photos
from serve_app.backbone import POOLINGS, STAGE_WIDTHS, load_head, pool, to_batch
from serve_app.weights.loader import EmbedderFiles


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    files = [folder / f"{number}.png" for number in range(3)]
    for file in files:
        Image.fromarray(random.integers(0, 255, (64, 64, 3)).astype(np.uint8)).save(file)
    return Photos("photos", files, np.array(["a", "a", "b"]), np.full(3, ""))


def test_a_cache_goes_on_where_it_was(photos, tmp_path):
    made = []

    def crop(path):
        made.append(path)
        return plain(path)

    told = []
    copy = Copy("plain", crop, half=False)
    Cache(tmp_path, lambda *words: told.append(words)).get(photos, copy, 2)
    kept = Cache(tmp_path, lambda *words: told.append(words)).get(photos, copy, 3)
    assert made == photos.files
    assert told == [("photos, plain, pooled", 2, 2), ("photos, plain, pooled", 3, 3)]
    assert kept.shape == (3, WIDTH)
    assert (np.abs(kept).max(axis=1) > 0).all()
    assert json.loads(next(tmp_path.glob("*.json")).read_text())["done"] == 3


def test_what_is_kept_is_what_the_embedder_pools(photos, tmp_path):
    cache = Cache(tmp_path, lambda *words: None)
    kept = torch.from_numpy(np.array(cache.get(photos, Copy("plain", plain, half=False), 3))).float()
    crops = np.stack([plain(file) for file in photos.files])
    with torch.inference_mode():
        pooled = torch.cat(cache.backbone(to_batch(crops, torch.device("cpu")), (1, 3)), dim=1)
    torch.testing.assert_close(select(kept, (1, 3)), pooled, rtol=2e-3, atol=1e-3)


def test_poolings_are_what_their_names_say():
    maps = torch.tensor([[[[1.0, 3.0]], [[2.0, 2.0]]]])
    torch.testing.assert_close(pool(maps, ("average",)), torch.tensor([[2.0, 2.0]]))
    torch.testing.assert_close(pool(maps, ("deviation",)), torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(pool(maps, ("generalised mean",)), torch.tensor([[14 ** (1 / 3), 2.0]]))


def test_main_directions_are_the_same_from_either_side():
    rows = torch.randn(6, 20, generator=torch.Generator().manual_seed(0))
    few, many = main_directions(rows, 3), main_directions(torch.cat([rows] * 5), 3)
    torch.testing.assert_close(few.T @ few, torch.eye(3), rtol=0, atol=1e-4)
    torch.testing.assert_close((few.T @ many).abs(), torch.eye(3), rtol=0, atol=1e-3)


def test_a_direction_without_differences_is_scaled_by_the_ridge_alone():
    scaled = scaled_down([(1.0, torch.tensor([[3.0, 0.0], [-3.0, 0.0]]))], ridge=1.0)
    lengths = scaled.T.norm(dim=0)
    torch.testing.assert_close(lengths.sort().values, torch.tensor([(9 + 4.5) ** -0.5, 4.5**-0.5]))


def test_products_are_told_apart_where_their_views_differ_in_something_else():
    """Products differ a little in one half of the numbers, views much in the other half."""
    generator = torch.Generator().manual_seed(0)
    products = 0.5 * torch.randn(40, 8, generator=generator).repeat_interleave(2, 0)
    views = 2.0 * torch.randn(80, 8, generator=generator)
    features = torch.nn.functional.normalize(torch.cat([products, views], dim=1))
    names = np.repeat(np.arange(40).astype(str), 2)
    seen = Set(torch.stack([features, features])[:, :40], names[:40])
    projected = features @ projection(seen, Set(features[None, :40], names[:40]), Recipe(directions=16, ridge=0.01)).T
    assert _found(projected[40:]) > _found(features[40:]) + 0.3


def _found(embeddings):
    similarity = torch.nn.functional.normalize(embeddings)
    similarity = (similarity @ similarity.T).fill_diagonal_(-2)
    return float((similarity.argmax(1) // 2 == torch.arange(len(similarity)) // 2).float().mean())


def test_a_saved_head_gives_the_same_embeddings(tmp_path):
    generator = torch.Generator().manual_seed(0)
    pooled = torch.rand(20, 2 * STAGE_WIDTHS[1], generator=generator)
    head = unprojected(pooled, (1,))
    assert frozen(head, pooled).norm(dim=1).tolist() == pytest.approx([1] * 20, abs=1e-5)
    head.projection.data = torch.randn(pooled.shape[1], 256, generator=generator).T
    save(head, tmp_path / "head.safetensors")
    again = load_head(EmbedderFiles(tmp_path / "none", tmp_path / "head.safetensors"))
    with torch.inference_mode():
        assert (head(pooled) * again(pooled)).sum(1).min() > 0.9999


def test_every_pooling_of_the_embedder_is_kept():
    assert {name for names in POOLINGS.values() for name in names} <= set(POOLED)
