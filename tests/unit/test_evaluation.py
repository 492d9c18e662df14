"""A whole evaluation with made models: gallery, questions, answers, report."""

import io
import json
import re
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from serve_app.cli.evaluating import Options, evaluate_search
from serve_app.cli.evaluation_tables import show
from serve_app.config import load_config
from serve_app.domain import Box, Detection
from serve_app.errors import BadInput, BadParameter, ShoplensError, Unavailable
from serve_app.evaluation import live, offline
from serve_app.evaluation.answers import Question
from serve_app.evaluation.calibrating import calibrate
from serve_app.evaluation.gallery import read_gallery
from serve_app.evaluation.models import Histogram, Models
from serve_app.evaluation.outcome import Outcome, compare, judge
from serve_app.evaluation.page import rank, worst, write
from serve_app.evaluation.photos import Photos
from serve_app.evaluation.pictures import Pictures
from serve_app.evaluation.questions import first_views, leave_one_view_out
from serve_app.evaluation.remembering import Memory, RememberedDetector, RememberedEmbedder

COLOURS = {"red": (200, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 200), "odd": (0, 190, 30)}


class Chairs:
    """Find a chair in the left half of every photo."""

    def find(self, photos):
        return [(Detection(Box(0, 0, 0.5, 1), "chair", 0.9),) for _ in photos]


class Grey(Histogram):
    """See no colours."""

    def embed(self, crops):
        return super().embed(np.repeat(crops.mean(-1, keepdims=True).astype(np.uint8), 3, axis=-1))


@pytest.fixture
def shop(tmp_path):
    """Three products of two photos each in one colour, and one whose second photo looks like another product."""
    for number, (name, colour) in enumerate(COLOURS.items()):
        (tmp_path / "shop" / name).mkdir(parents=True)
        for view in range(2):
            pixels = np.full((100, 120, 3), 255, np.uint8)
            pixels[10 : 60 + 3 * view + 4 * number, 20:100] = COLOURS["red"] if (name, view) == ("odd", 1) else colour
            Image.fromarray(pixels).save(tmp_path / "shop" / name / f"{view}.png")
    return tmp_path / "shop"


@pytest.fixture
def config(tmp_path):
    return load_config(data_dir=tmp_path / "data")


@pytest.fixture
def photos(config):
    with Photos(config) as opened:
        yield opened


@pytest.fixture
def evaluated(shop, config, photos, tmp_path):
    """What a model finds when each photo is searched for the others."""

    def evaluate(embedder=Histogram, views=None):
        gallery, _ = read_gallery(shop)
        with Memory(tmp_path / "said.sqlite") as memory:
            name = embedder.__name__
            models = Models(
                name, RememberedDetector(Chairs, memory, "chairs"), RememberedEmbedder(embedder, memory, name)
            )
            index, unusable = offline.shelve(gallery, models, config, lambda done: None)
            asked = offline.settle((views or leave_one_view_out)(gallery), index, photos)
            run, refused = offline.run(asked.questions, models, offline.over(index), config, photos, lambda done: None)
        return asked, run, index, [*unusable, *refused]

    return evaluate


def outcome(asked, *runs, **more) -> Outcome:
    judged = tuple(judge(run, asked.gallery) for run in runs)
    values = {"unanswerable": 0, "unusable": (), **more}
    return Outcome("made", "2026-11-25", asked.gallery, judged, compare(runs, asked.gallery), **values)


def test_every_photo_finds_the_other_one_of_its_product_but_the_odd(evaluated):
    _, run, index, unusable = evaluated()
    assert len(index) == 16  # a whole and a main object of each
    assert unusable == []
    found = {answered.question.image: rank(answered) for answered in run.answers}
    assert all(place == 1 for image, place in found.items() if not image.startswith("odd"))
    assert found["odd/0.png"] != 1


def test_no_photo_finds_itself(evaluated):
    _, run, _, _ = evaluated()
    for answered in run.answers:
        found = {product.image_id for listed in answered.lists for product in listed.products}
        assert not found & answered.question.left_out


def test_answers_hold_the_object_and_the_whole_photo(evaluated):
    _, run, _, _ = evaluated()
    assert [(each.whole, each.main) for each in run.answers[0].lists] == [(False, True), (True, False)]


def test_copies_of_a_photo_are_left_out_with_it(evaluated, shop):
    (shop / "red/2.png").write_bytes((shop / "red/1.png").read_bytes())
    (shop / "blue/1.png").write_bytes((shop / "blue/0.png").read_bytes())
    asked, run, _, _ = evaluated()
    assert asked.unanswerable == 2  # both photos of the blue one are the same file
    assert {each.question.right for each in run.answers} == {("red",), ("green",), ("odd",)}
    assert {len(each.left_out) for each in asked.questions if each.image in ("red/1.png", "red/2.png")} == {2}


def test_a_copy_of_a_first_view_is_not_asked_for(evaluated, shop):
    (shop / "blue/1.png").write_bytes((shop / "blue/0.png").read_bytes())
    asked, _, _, _ = evaluated(views=first_views)
    assert asked.unanswerable == 1
    assert {each.image for each in asked.questions} == {"red/1.png", "green/1.png", "odd/1.png"}


def test_images_that_are_none_are_told_and_not_asked_for(evaluated, shop):
    (shop / "green/1.png").write_bytes(b"no image")
    asked, _, _, unusable = evaluated()
    assert {each.image for each in unusable} == {"green/1.png"}
    assert "green/0.png" not in {each.image for each in asked.questions}


def test_a_photo_that_can_not_be_read_is_told(evaluated, config, photos, tmp_path):
    _, _, index, _ = evaluated()
    with Memory(tmp_path / "said.sqlite") as memory:
        models = Models("m", RememberedDetector(Chairs, memory, "d"), RememberedEmbedder(Histogram, memory, "m"))
        gone = Question("gone.jpg", str(tmp_path), ("red",))
        run, refused = offline.run([gone], models, offline.over(index), config, photos, lambda done: None)
    assert run.answers == ()
    assert "gone.jpg" in refused[0].reason


def test_the_report_shows_mistakes_with_pictures(evaluated, photos, tmp_path):
    asked, run, _, _ = evaluated()
    write(tmp_path / "report.html", outcome(asked, run), Pictures(photos, asked.gallery))
    page = (tmp_path / "report.html").read_text()
    assert worst(run)[0].question.right == ("odd",)
    assert page.count('src="data:image/jpeg;base64,') >= 5
    assert "no picture" not in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "of 8 photos of 4 products" in page


def test_the_report_of_two_models_shows_what_became_worse(evaluated, photos, tmp_path):
    asked, run, _, _ = evaluated()
    _, grey, _, _ = evaluated(Grey)
    found = outcome(asked, run, grey)
    write(tmp_path / "report.html", found, Pictures(photos, asked.gallery))
    page = (tmp_path / "report.html").read_text()
    right, left = ({each.question.image for each in side.answers if rank(each) == 1} for side in (run, grey))
    assert len(right - left) > 1
    assert f"Worse with Grey: {len(right - left)} photos" in page
    assert "Grey against Histogram" in page


def test_names_in_a_report_are_text(evaluated, photos, tmp_path):
    asked, run, _, _ = evaluated()
    page = tmp_path / "report.html"
    left = offline.Unusable("<script>alert(1)</script>.jpg", "<b>")
    write(page, outcome(asked, run, unusable=(left,)), Pictures(photos, asked.gallery))
    assert "<script" not in page.read_text()
    assert "&lt;script&gt;" in page.read_text()


def test_the_terminal_shows_both_models_and_how_they_differ(evaluated):
    asked, run, _, _ = evaluated()
    _, grey, _, _ = evaluated(Grey)
    console = Console(width=200, file=io.StringIO())
    show(outcome(asked, run, grey), console)
    printed = console.file.getvalue()
    assert "8 images of 4 products" in printed
    assert re.search(r"as they are +main list +8 +4 +0\.750 \[", printed)
    assert re.search(r"Grey against Histogram", printed)
    assert re.search(r"as they are +main list +R@1 +-0\.\d{3}", printed)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, "--queries"),
        ({"first_views": True, "leave_one_view_out": True}, "exclude each other"),
        ({"leave_one_view_out": True, "url": "http://shop"}, "--url"),
        ({"first_views": True, "url": "http://shop", "against": "hsv"}, "--url"),
    ],
)
def test_options_that_contradict_each_other_are_refused(given, reason):
    with pytest.raises(BadParameter, match=reason):
        Options(Path("shop"), **given).check()


def test_a_catalogue_that_holds_the_photos_is_not_asked_for_live(config, shop):
    queries = shop.parent / "q.csv"
    gallery, _ = read_gallery(shop)
    queries.write_text(f"image,product_id,left_out\nshop/red/0.png,red,{gallery.entries[0].image_id}\n")
    with pytest.raises(BadParameter, match="evaluate split"):
        evaluate_search(config, Options(shop, queries=(queries,), url="http://127.0.0.1:9"), Console())


def test_the_figures_are_json(evaluated):
    asked, run, _, _ = evaluated()
    document = json.loads(json.dumps(outcome(asked, run).document(), allow_nan=False))
    (main, *_) = document["runs"][0]["rows"]
    assert main["figures"]["R@1"]["value"] == pytest.approx(6 / 8)
    assert document["gallery"] == {"images": 8, "products": 4}


def test_too_few_photos_give_no_curve(evaluated):
    _, run, _, _ = evaluated()
    with pytest.raises(BadInput, match="larger set"):
        calibrate(run)


# --- a live endpoint


def answer(*products: str, model: str = "m") -> dict:
    found = [{"product_id": each, "image_id": f"{each}-1", "score": 0.9 - i / 10} for i, each in enumerate(products)]
    whole = {"box": [0, 0, 1, 1], "main": True, "source": "whole", "products": found}
    shown = {"box": [0, 0, 0.5, 1], "main": False, "source": "detector", "products": None}
    return {"model": model, "objects": [shown, whole], "degraded": ["no_object"]}


def ask(photos, shop, respond, *images):
    questions = [Question(image, str(shop), (image.split("/")[0],)) for image in images or ["red/0.png"]]
    transport = httpx.MockTransport(respond)
    return live.run(questions, "http://shop", photos, lambda done: None, transport=transport)


def test_a_live_answer_is_judged_like_one_in_process(photos, shop):
    def respond(request):
        assert request.url.path == "/v1/search"
        assert b"PNG" in request.content
        return httpx.Response(200, json=answer("blue", "red"))

    run, unusable = ask(photos, shop, respond)
    assert (run.model, unusable) == ("m", [])
    assert run.answers[0].main.ids == ["blue", "red"]
    assert run.answers[0].degraded == ("no_object",)
    assert len(run.answers[0].lists) == 1  # what was not searched is not judged


def test_a_service_that_asks_for_a_key_is_given_it(photos, shop):
    sent = []

    def respond(request):
        sent.append(request.headers.get("Authorization"))
        return httpx.Response(200, json=answer("red"))

    questions = [Question("red/0.png", str(shop), ("red",))]
    for key in ("k-1", None):
        live.run(questions, "http://shop", photos, lambda done: None, key=key, transport=httpx.MockTransport(respond))
    assert sent == ["Bearer k-1", None]


def test_a_busy_service_is_asked_again(photos, shop):
    replies = [httpx.Response(429, headers={"Retry-After": "0"}), httpx.Response(200, json=answer("red"))]
    run, _ = ask(photos, shop, lambda request: replies.pop(0))
    assert len(run.answers) == 1


def test_a_photo_that_the_service_refuses_is_told(photos, shop):
    refusal = httpx.Response(422, json={"detail": "this is no image"})
    run, (left,) = ask(photos, shop, lambda request: refusal)
    assert run.answers == ()
    assert left == offline.Unusable("red/0.png", "this is no image")


def test_a_service_that_stays_away_ends_the_evaluation(photos, shop):
    with pytest.raises(Unavailable, match="did not answer in 5 tries: away"):
        ask(photos, shop, lambda request: httpx.Response(503, headers={"Retry-After": "0"}, json={"detail": "away"}))


def test_an_error_of_the_service_ends_the_evaluation(photos, shop):
    with pytest.raises(ShoplensError, match="answers 500"):
        ask(photos, shop, lambda request: httpx.Response(500, json={"detail": "a bug"}))


def test_a_model_that_changes_on_the_way_ends_the_evaluation(photos, shop):
    replies = [answer("red", model="old"), answer("red", model="new")]
    with pytest.raises(Unavailable, match="new, old"):
        ask(photos, shop, lambda request: httpx.Response(200, json=replies.pop()), "red/0.png", "blue/0.png")
