"""What training the fourth stage changes, and what it leaves as it was."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from scripts.training_cache import WIDTH
from scripts.training_head import select, unprojected
from scripts.training_heads import Features, everything
from scripts.training_photos import Luma, Photos, Radios
from scripts.training_stage import Batches, Maps, StageRecipe, averaged, seen_by, trained
from serve_app.backbone import STAGE_WIDTHS

RECIPE = StageRecipe(steps=8, products=3, photos_of_each=3, singles=2, rate=3e-3, keep=0.1)
VIEWS = 3


@pytest.fixture
def stage():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(STAGE_WIDTHS[3], STAGE_WIDTHS[4], 1), nn.ReLU())


def maps_of(random, copies, count):
    return [random.random((count, STAGE_WIDTHS[3], 2, 2)).astype(np.float16) for _ in range(copies)]


def photos(name, products):
    return Photos(
        name, [Path(f"{name}{i}") for i in range(len(products))], np.array(products), np.full(len(products), "")
    )


@pytest.fixture
def shown(stage):
    """Three products of three views each, two copies; four single photos; two radios."""
    random = np.random.default_rng(0)
    products = [f"p{i // VIEWS}" for i in range(3 * VIEWS)]
    luma = Luma(photos("luma", products), np.arange(9) % 3, np.arange(0, 9, VIEWS), np.arange(1, 9, VIEWS))
    clothing, radios = photos("clothing", list("abcd")), Radios(photos("radios", list("rs")), np.array([True, False]))
    maps = Maps(maps_of(random, 2, 9), maps_of(random, 2, 4), maps_of(random, 1, 2)[0])
    pooled = [torch.from_numpy(random.random((*shape, WIDTH)).astype(np.float16)) for shape in ((2, 9), (2, 4), (2,))]
    return seen_by(stage, Features(luma, clothing, radios, *pooled), maps), maps


def test_a_trained_stage_tells_products_apart_and_leaves_the_original(stage, shown):
    features, maps = shown
    told, original = [], {name: value.clone() for name, value in stage.state_dict().items()}
    head = unprojected(select(features.luma_copies[0].float(), (1, 2, 3, 4)), (1, 2, 3, 4))
    head.projection.data.normal_(generator=torch.Generator().manual_seed(0))
    part = everything(features.luma, features.clothing)
    before = contrast_of(stage, head.requires_grad_(False), features, maps, part)
    after = trained(stage, head, part, features, maps, RECIPE, 0, told.append)
    assert contrast_of(after, head, features, maps, part) < before
    assert all(torch.equal(value, original[name]) for name, value in stage.state_dict().items())


def contrast_of(stage, head, features, maps, part):
    """Return how much likelier other products' photos look than a product's own."""
    with torch.inference_mode():
        said = head(select(seen_by(stage, features, maps).luma_copies[0].float(), (1, 2, 3, 4)))
    alike, own = said @ said.T, torch.arange(9) // VIEWS
    same = own[:, None] == own
    return float(alike[~same].mean() - alike[same & ~torch.eye(9, dtype=torch.bool)].mean())


def test_the_same_stage_says_the_same(stage, shown):
    features, maps = shown
    again = seen_by(stage, features, maps)
    assert torch.equal(again.luma_copies, features.luma_copies)
    other = seen_by(averaged(stage, nn.Sequential(nn.Conv2d(1024, 2048, 1), nn.ReLU()), 1), features, maps)
    assert torch.equal(other.radio_photos[:, : -3 * 2048], features.radio_photos[:, : -3 * 2048])
    assert not torch.equal(other.radio_photos, features.radio_photos)


def test_weights_are_averaged(stage):
    other = averaged(stage, stage, 0)
    with torch.no_grad():
        for value in other.parameters():
            value.add_(1)
    torch.testing.assert_close(averaged(stage, other, 0.25)[0].weight, stage[0].weight + 0.25)


def test_a_step_holds_as_many_views_as_there_are(shown):
    features, maps = shown
    batch = Batches(everything(features.luma, features.clothing), features, maps, RECIPE).draw(np.random.default_rng(1))
    assert batch.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 2 + [4] * 2
    assert batch.maps.shape == (13, 1024, 2, 2)
    drawn = [
        {i for i in range(9) for copy in maps.luma if np.array_equal(copy[i], row)} for row in batch.maps[:9].numpy()
    ]
    for product in range(3):
        views = set().union(*drawn[3 * product : 3 * product + 3])
        assert len(views) == VIEWS
        assert len({view // VIEWS for view in views}) == 1
