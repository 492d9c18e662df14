"""The browser's own detector in Debian's Chromium: real runtime and model, the real API, a shop of drawings."""

import json
from dataclasses import replace

import pytest
from playwright.sync_api import expect

from serve_app.browser_detector import MEDIA_TYPES, MODEL, BrowserDetector, read_browser_detector
from serve_app.config import PageConfig, load_config
from serve_app.domain import Box
from serve_app.weights.browser_runtime import fetch_browser_runtime
from tests.web.conftest import given
from tests.web.shop import Shop
from tests.web.test_page import DESKTOP, PHONE, Visit, asked_of, visited

FREE = {"effectiveType": "4g", "downlink": 10, "saveData": False, "type": "wifi"}
READY = "() => performance.getEntriesByName('shoplens detector ready').length"
MEASURED = "() => performance.getEntriesByName('shoplens objects found').length"
PHOTO = "Philips_P636_933.jpg"
FOUND = ["Vase", "Bottle", "Whole photo"]
"""What both detectors find in that radio."""
GIVEN_UP = 600


def network(**changes) -> str:
    """Return a script that has the browser take itself for on such a network."""
    return f"Object.defineProperty(navigator, 'connection', {{get: () => ({json.dumps(FREE | changes)})}})"


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> BrowserDetector:
    config = load_config(data_dir=tmp_path_factory.mktemp("data"))
    config = config.model_copy(update={"page": PageConfig(detector=given("SHOPLENS_TEST_BROWSER"))})
    found = read_browser_detector(config)
    assert found is not None
    return found


def test_runtime_is_the_pinned_one(detector):
    assert fetch_browser_runtime(detector.folder, print) is False


def ready(visit: Visit) -> None:
    """Search once, and wait until the browser can find objects itself."""
    visit.search()
    visit.page.wait_for_function(READY)


def glimpse(visit: Visit) -> None:
    """Send another photo to a service that does not answer, and wait for what the browser finds."""
    visit.shop.held = True
    visit.send((given("SHOPLENS_TEST_PHOTOS") / PHOTO).read_bytes())
    expect(visit.page.locator("#things button")).to_have_text(FOUND)


@pytest.fixture(params=["phone", "desktop"])
def visit(browser, detector, request):
    size = PHONE if request.param == "phone" else DESKTOP
    yield from visited(browser, Shop(browser_detector=detector), network(), **size)


@pytest.fixture
def desktop(browser, detector):
    yield from visited(browser, Shop(browser_detector=detector), network(), **DESKTOP)


def frame(visit: Visit) -> Box:
    """Return the box that is shown, in 0…1 of the photo."""
    edges = visit.page.locator("#frame").evaluate(
        "({style}) => [style.left, style.top, style.width, style.height].map((each) => parseFloat(each) / 100)"
    )
    left, top, width, height = edges
    return Box(left, top, left + width, top + height)


def test_next_photo_shows_its_objects_before_the_service_answers(visit):
    ready(visit)
    glimpse(visit)
    expect(visit.page.locator("#things [aria-pressed=true]")).to_have_text("Whole photo")
    expect(visit.page.locator(".dot")).to_have_count(2)
    expect(visit.page.locator(".card.empty").first).to_be_visible()
    assert len(visit.shop.uploads) == 1
    visit.accessible()
    visit.shop.held = False
    expect(visit.page.locator("#things button")).to_have_text(["Chair", "Sports ball", "Vase", "Whole photo"])
    visit.shows("chair")
    assert len(visit.shop.uploads) == 2


@pytest.mark.parametrize("shape", ["ball", "vase"])
def test_object_that_is_chosen_before_the_answer_is_the_services_own_then(desktop, shape):
    ready(desktop)
    glimpse(desktop)
    desktop.press("Vase")
    elsewhere = [Box(0, 0, 0.1, 0.1), Box(0.9, 0.9, 1, 1)]
    # The shop lists its vase without products, as one object more than it searches.
    desktop.shop.places = {
        each: frame(desktop) if each == shape else elsewhere.pop() for each in ("chair", "ball", "vase")
    }
    desktop.shop.held = False
    desktop.shows(shape)
    name = {"ball": "Sports ball", "vase": "Vase"}[shape]
    expect(desktop.page.locator("#things [aria-pressed=true]")).to_have_text(name)
    assert len(desktop.shop.uploads) == 2
    assert len(desktop.shop.boxes) == (shape == "vase")


def test_object_that_the_service_does_not_find_is_searched_by_its_box(desktop):
    ready(desktop)
    glimpse(desktop)
    desktop.press("Vase")
    box = frame(desktop)
    desktop.shop.places = {
        shape: Box(place, place, place + 0.05, place + 0.05)
        for shape, place in zip(("chair", "ball", "vase"), (0, 0.05, 0.95), strict=True)
    }
    desktop.shop.held = False
    expect(desktop.page.locator("#found")).to_have_text("Selected area")
    (asked,) = desktop.shop.boxes
    assert asked.as_tuple() == pytest.approx(box.as_tuple(), abs=1e-3)
    expect(desktop.page.locator("#things button")).to_have_count(4)


def test_box_that_is_drawn_before_the_answer_is_searched(desktop):
    ready(desktop)
    glimpse(desktop)
    desktop.drag(desktop.of_stage(0.77, 0.15), desktop.of_stage(0.95, 0.62))
    expect(desktop.page.locator(".own")).to_have_text("Selected area")
    desktop.shop.held = False
    desktop.shows("vase")
    expect(desktop.page.locator("#things button")).to_have_text(FOUND)
    desktop.press("Whole photo")
    expect(desktop.page.locator("#things button")).to_have_count(4)
    expect(desktop.page.locator("#things [aria-pressed=true]")).to_have_text("Whole photo")


def test_answer_that_comes_first_stays(desktop):
    ready(desktop)
    desktop.send((given("SHOPLENS_TEST_PHOTOS") / PHOTO).read_bytes())
    desktop.page.wait_for_function(MEASURED)
    desktop.shows("chair")
    expect(desktop.page.locator("#things button")).to_have_text(["Chair", "Sports ball", "Vase", "Whole photo"])


@pytest.mark.parametrize(
    "script",
    [
        network(saveData=True),
        network(effectiveType="3g"),
        network(downlink=1.5),
        network(type="cellular"),
        "Object.defineProperty(navigator, 'connection', {get: () => undefined})",
    ],
    ids=["saves data", "3g", "slow", "metered", "unknown"],
)
def test_network_that_is_metered_or_slow_brings_no_detector(browser, detector, script):
    for visit in visited(browser, Shop(browser_detector=detector), script, **DESKTOP):
        searched_without_a_worker(visit)


def test_shop_without_a_detector_for_browsers_asks_nothing(browser):
    for visit in visited(browser, Shop(), network(), **DESKTOP):
        searched_without_a_worker(visit)


def searched_without_a_worker(visit: Visit) -> None:
    asked = asked_of(visit.page)
    visit.search()
    visit.press("Vase")
    visit.shows("vase")
    assert visit.page.workers == []
    assert not [each for each in asked if "detector/" in each or "worker" in each]


def test_detector_that_can_not_be_had_is_no_matter(browser, detector, tmp_path):
    for name in MEDIA_TYPES:
        (tmp_path / name).write_bytes((detector.folder / name).read_bytes()[: 5000 if name == MODEL else None])
    for visit in visited(browser, Shop(browser_detector=replace(detector, folder=tmp_path)), network(), **DESKTOP):
        with visit.page.expect_worker() as begun:
            visit.search()
        for _ in range(GIVEN_UP):
            if begun.value not in visit.page.workers:
                break
            visit.page.wait_for_timeout(50)
        assert visit.page.workers == []
        visit.send(field="#another")
        visit.shows("chair")
        assert len(visit.shop.uploads) == 2
