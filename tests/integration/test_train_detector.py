"""A detector that is fine-tuned by Ultralytics' trainer, killed between epochs, and loaded as a service loads it."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from scripts.training_boxes import BoxSets, write_set
from scripts.training_detector import KEPT, Recipe, claim, train
from serve_app.config import Config
from serve_app.domain import Box
from serve_app.errors import BadConfig, BadWeights
from serve_app.evaluation.boxes import BoxedPhoto
from serve_app.evaluation.detections import Thing
from serve_app.objects import Focus
from serve_app.stages import load_detector
from serve_app.weights.loader import digest

BOX = Box(0.25, 0.25, 0.75, 0.75)
RECIPE = Recipe(epochs=2, side_px=64, batch=2, seed=0, freeze=10)


class KilledError(RuntimeError):
    pass


@pytest.fixture
def sets(tmp_path):
    random = np.random.default_rng(0)
    photos = []
    for number in range(4):
        pixels = random.integers(0, 255, (64, 64, 3)).astype(np.uint8)
        pixels[16:48, 16:48] = (200, 30, 30)
        image = tmp_path / f"{number}.png"
        Image.fromarray(pixels).save(image)
        photos.append(BoxedPhoto(image, (Thing(BOX, "Home/Seats"),)))
    return BoxSets(tuple(photos[:2]), tuple(photos[2:]))


async def test_training_goes_on_after_a_kill_and_a_service_loads_the_result(sets, weights, tmp_path, monkeypatch):
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path / "ultralytics"))
    work, epochs = tmp_path / "work", []

    def once_more(told=epochs.append):
        claim(work, RECIPE, sets.digest())
        data = write_set(sets, work / "set")
        return train(weights, data, work, RECIPE, device="cpu", threads=1, workers=0, told=told)

    def killed(epoch):
        epochs.append(epoch)
        raise KilledError

    with pytest.raises(KilledError):
        once_more(told=killed)
    assert (work / KEPT).is_file()
    trained = once_more()
    assert epochs == [1, 2]
    assert once_more() == trained
    assert epochs == [1, 2]
    with pytest.raises(BadConfig, match="holds another training"):
        claim(work, replace(RECIPE, epochs=3), sets.digest())

    own = {"weights": str(trained), "sha256": digest(trained), "min_confidence": 0.0}
    stage = load_detector(Config(detector=own))
    sighting = await stage.detect(sets.val[0].image.read_bytes(), Focus())
    await stage.close()
    assert {each.label for each in sighting.detections} == {"Home/Seats"}
    with pytest.raises(BadWeights):
        load_detector(Config(detector={"weights": str(trained)}))
