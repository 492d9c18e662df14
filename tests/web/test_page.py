"""The page in Debian's Chromium, on the real API over a shop of drawings. Safari and Firefox are not run."""

import base64
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect

from serve_app.config import PageConfig
from serve_app.domain import Source
from serve_app.errors import IndexMissing, MilvusUnavailable, Overloaded
from serve_app.feedback.records import Act, Feedback
from serve_app.texts import PAGE, texts
from tests.unit.builders import curve
from tests.web.shop import PRODUCTS, Shop, scene, served

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
DESKTOP = {"viewport": {"width": 1280, "height": 800}}
PHOTO = scene()
LIMIT_MS = 60_000
SETTLED = """() => Promise.all(document.getAnimations()
  .filter((each) => each.effect.getComputedTiming().iterations !== Infinity)
  .map((each) => each.finished.catch(() => null)))"""


@dataclass
class Visit:
    """Hold a shopper's visit to a shop."""

    shop: Shop
    address: str
    context: BrowserContext
    page: Page

    def send(self, photo: bytes = PHOTO, kind: str = "image/jpeg", field: str = "#choose") -> None:
        self.page.set_input_files(field, files=[{"name": "photo", "mimeType": kind, "buffer": photo}])

    def search(self) -> None:
        """Send the scene, and wait for its products."""
        self.send()
        self.shows("chair")

    def shows(self, what: str, first: int = 0) -> None:
        expect(self.titles.nth(first)).to_contain_text(what)

    @property
    def titles(self):
        return self.page.locator(".card:not(.empty) .title")

    def notice(self, said: str):
        return self.page.locator(".notice", has_text=said)

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def centre(self, selector: str) -> tuple[float, float]:
        self.page.locator(selector).scroll_into_view_if_needed()
        box = self.page.locator(selector).bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def of_stage(self, x: float, y: float) -> tuple[float, float]:
        """Return the pixel at a place in 0…1 of the photo."""
        box = self.page.locator("#stage").bounding_box()
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.page.mouse.move(*start)
        self.page.mouse.down()
        self.page.mouse.move(*end, steps=8)
        self.page.mouse.up()

    def accessible(self) -> None:
        # What fades in has another contrast until it is there.
        self.page.evaluate(SETTLED)
        found = Axe().run(self.page)
        assert not found.violations_count, found.generate_report()


def asked_of(page: Page) -> list[str]:
    """Return the addresses that a page asks for from now on, as they come."""
    found: list[str] = []
    page.on("request", lambda request: found.append(request.url))
    return found


def visited(browser: Browser, shop: Shop, script: str = "", **options) -> Iterator[Visit]:
    """Yield a visit; afterwards, tell of scripts that failed, what the policy blocked, and requests to others."""
    failures, addresses = [], []
    with served(shop) as address:
        context = browser.new_context(**{"locale": "en-US", **options})
        context.set_default_timeout(LIMIT_MS)
        expect.set_options(timeout=LIMIT_MS)
        if script:
            context.add_init_script(script)
        page = context.new_page()
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.on("console", lambda line: "Content Security Policy" in line.text and failures.append(line.text))
        page.on("request", lambda request: addresses.append(request.url))
        page.goto(address)
        yield Visit(shop, address, context, page)
        context.close()
    assert not failures
    assert not [each for each in addresses if not each.startswith((address, "blob:", "data:"))]


@pytest.fixture
def visit(browser):
    yield from visited(browser, Shop(), **DESKTOP)


@pytest.fixture(params=["phone", "desktop"])
def anywhere(browser, request):
    yield from visited(browser, Shop(), **(PHONE if request.param == "phone" else DESKTOP))


@pytest.fixture
def phone(browser):
    yield from visited(browser, Shop(), **PHONE)


def test_whole_way_from_a_photo_to_japanese(anywhere):
    page, shop = anywhere.page, anywhere.shop
    anywhere.accessible()
    anywhere.search()
    expect(page.locator("#things button")).to_have_text(["Chair", "Sports ball", "Vase", "Whole photo"])
    expect(page.locator("#things [aria-pressed=true]")).to_have_text("Chair")
    expect(page.locator(".dot")).to_have_count(2)
    anywhere.accessible()

    anywhere.drag(anywhere.centre("#frame"), anywhere.of_stage(0.62, 0.6))
    anywhere.shows("ball")
    expect(page.locator("#found")).to_have_text("Selected area")
    assert len(shop.uploads) == 1

    anywhere.press("Filters")
    page.get_by_label("In stock").check()
    expect(page.locator("#filtered")).to_have_text("1")
    expect(page.locator(".gone")).to_have_count(0)
    anywhere.shows("ball")
    anywhere.accessible()

    expect(anywhere.titles).to_have_count(12)
    page.locator(".further").scroll_into_view_if_needed()
    anywhere.shows("ball", first=13)

    page.get_by_label("Language").select_option("ar")
    anywhere.shows("كرة")
    assert (page.get_attribute("html", "dir"), page.get_attribute("html", "lang")) == ("rtl", "ar")
    anywhere.accessible()
    page.get_by_label(texts(PAGE, "ar")["Language"]).select_option("ja")
    anywhere.shows("ボール")
    expect(page.locator("#things button").first).to_have_text("椅子")
    assert page.get_attribute("html", "dir") == "ltr"
    anywhere.accessible()
    assert len(shop.uploads) == 1


def test_photo_is_sent_small_upright_and_without_what_the_camera_wrote(visit):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera"
    file = io.BytesIO()
    Image.open(io.BytesIO(PHOTO)).save(file, "JPEG", exif=exif)
    visit.send(file.getvalue())
    visit.shows("chair")
    sent = Image.open(io.BytesIO(visit.shop.uploads[0]))
    assert (sent.format, sent.size, dict(sent.getexif())) == ("JPEG", (1200, 1600), {})


def test_small_photo_is_sent_as_it_is(visit):
    small = scene(800, 600)
    visit.send(small)
    visit.shows("chair")
    assert visit.shop.uploads == [small]


def test_transparent_parts_are_sent_white(visit):
    file = io.BytesIO()
    Image.new("RGBA", (2000, 1000)).save(file, "PNG")
    visit.send(file.getvalue(), "image/png")
    visit.shows("chair")
    sent = Image.open(io.BytesIO(visit.shop.uploads[0]))
    assert (sent.size, sent.getpixel((5, 5))) == ((1600, 800), (255, 255, 255))


def test_photo_is_there_before_its_answer(visit):
    visit.shop.delay_s = 2
    visit.send()
    expect(visit.page.locator("#picture")).to_have_js_property("naturalWidth", 2400)
    expect(visit.page.locator(".card.empty").first).to_be_visible()
    visit.accessible()
    visit.shows("chair")


def test_photo_that_the_browser_can_not_read_is_sent_as_it_is_and_refused_in_words(visit):
    visit.send(b"no photo", "image/heic")
    expect(visit.notice("This photo can't be read.")).to_be_visible()
    visit.accessible()
    with visit.page.expect_file_chooser() as chooser:
        visit.page.locator(".notice button").click()
    chooser.value.set_files(files=[{"name": "p", "mimeType": "image/jpeg", "buffer": PHOTO}])
    visit.shows("chair")
    assert visit.shop.uploads[0] == b"no photo"


DROP = """([bytes, event]) => {
  const transfer = new DataTransfer();
  const data = Uint8Array.from(atob(bytes), (each) => each.charCodeAt(0));
  transfer.items.add(new File([data], "photo.jpg", {type: "image/jpeg"}));
  const options = {bubbles: true, cancelable: true};
  document.body.dispatchEvent(event === "paste"
    ? new ClipboardEvent("paste", {...options, clipboardData: transfer})
    : new DragEvent(event, {...options, dataTransfer: transfer}));
}"""


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_photo_is_dropped_and_pasted(visit, way):
    visit.page.evaluate(DROP, [base64.b64encode(PHOTO).decode(), way])
    visit.shows("chair")


def test_camera_is_offered_on_a_phone(phone):
    assert phone.page.get_attribute("#take", "capture") == "environment"
    expect(phone.page.get_by_text("Take a photo")).to_be_visible()
    phone.send(field="#take")
    phone.shows("chair")


def test_another_object_is_shown_without_asking_and_one_that_was_not_searched_by_token(visit):
    visit.search()
    asked = []
    visit.page.on("request", lambda request: "/v1/search" in request.url and asked.append(request.url))
    visit.press("Sports ball")
    visit.shows("ball")
    assert asked == []
    x, y = visit.centre(".dot[title=Vase]")
    visit.page.mouse.click(x, y)
    visit.shows("vase")
    assert [("token=" in each, "box=0.78" in each) for each in asked] == [(True, True)]
    assert len(visit.shop.uploads) == 1


def test_box_is_moved_and_resized_by_keys_alone(visit):
    visit.search()
    frame = visit.page.get_by_role("application")
    frame.focus()
    for key, times in (("ArrowRight", 19), ("ArrowDown", 5)):
        for _ in range(times):
            visit.page.keyboard.press(key)
    visit.shows("ball")
    before = frame.bounding_box()
    visit.page.keyboard.press("Shift+ArrowLeft")
    visit.page.keyboard.press("Shift+ArrowUp")
    after = frame.bounding_box()
    assert (after["x"], after["y"]) == (before["x"], before["y"])
    assert after["width"] < before["width"]
    assert after["height"] < before["height"]
    assert len(visit.shop.uploads) == 1


def test_box_is_resized_at_its_corner_and_drawn_by_mouse(visit):
    visit.search()
    frame = visit.page.locator("#frame")
    before = frame.bounding_box()
    visit.drag(visit.centre("[data-corner=se]"), visit.of_stage(0.3, 0.6))
    after = frame.bounding_box()
    assert (after["x"], after["y"]) == (before["x"], before["y"])
    assert after["width"] < before["width"]
    visit.drag(visit.of_stage(0.76, 0.1), visit.of_stage(0.97, 0.65))
    visit.shows("vase")
    box = visit.shop.boxes[-1]
    assert (box.x0, box.y0, box.x1, box.y1) == pytest.approx((0.76, 0.1, 0.97, 0.65), abs=0.01)


def test_box_follows_a_finger(phone):
    phone.search()
    session = phone.context.new_cdp_session(phone.page)
    (x, y), (to_x, to_y) = phone.centre("#frame"), phone.of_stage(0.62, 0.62)
    for kind, part in (("touchStart", 0), *(("touchMove", step / 8) for step in range(1, 9)), ("touchEnd", None)):
        points = [] if part is None else [{"x": x + (to_x - x) * part, "y": y + (to_y - y) * part}]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    phone.shows("ball")


def test_box_needs_no_dragging(phone):
    phone.search()
    phone.page.touchscreen.tap(*phone.of_stage(0.62, 0.2))
    phone.page.touchscreen.tap(*phone.of_stage(0.86, 0.55))
    phone.shows("vase")
    before = phone.page.locator("#frame").bounding_box()
    phone.press("Smaller box")
    assert phone.page.locator("#frame").bounding_box()["width"] < before["width"]
    phone.press("Larger box")
    phone.press("Whole photo")
    expect(phone.page.locator("#frame")).to_have_class("frame all")


def test_answer_that_is_overtaken_is_dropped(visit):
    visit.search()
    visit.shop.delay_s = 1.5
    visit.drag(visit.of_stage(0.5, 0.45), visit.of_stage(0.74, 0.9))
    with visit.page.expect_request("**/v1/search*"):
        pass
    visit.shop.delay_s = 0
    visit.drag(visit.of_stage(0.76, 0.1), visit.of_stage(0.97, 0.65))
    visit.shows("vase")
    visit.page.wait_for_timeout(2000)
    visit.shows("vase")


def test_expired_token_sends_the_photo_again_by_itself(visit):
    visit.search()
    visit.shop.tokens.clear()
    visit.press("Vase")
    visit.shows("vase")
    assert len(visit.shop.uploads) == 2
    expect(visit.page.locator(".notice")).to_have_count(0)


def test_list_that_is_forgotten_goes_on_where_it_was(visit):
    visit.search()
    visit.shop.tokens.clear()
    visit.shop.lists.clear()
    visit.page.locator(".further").scroll_into_view_if_needed()
    expect(visit.titles.nth(14)).to_be_visible()
    titles = visit.titles.all_text_contents()
    assert len(set(titles)) == len(titles)
    assert len(visit.shop.uploads) == 2


def test_list_is_paged_to_its_end_without_a_product_twice(visit):
    visit.search()
    for _ in range(12):
        visit.page.evaluate("scrollTo(0, document.body.scrollHeight)")
        visit.page.wait_for_timeout(150)
    expect(visit.titles).to_have_count(PRODUCTS)
    assert len(set(visit.titles.all_text_contents())) == PRODUCTS
    expect(visit.page.locator("#more")).to_be_hidden()


def test_cards_tell_their_match_where_the_model_can(visit):
    visit.search()
    signs = visit.page.locator("#products .card .match")
    expect(signs).to_have_count(0)
    visit.shop.curve = curve()
    visit.send()
    expect(signs.nth(11)).to_be_visible()
    assert all(re.fullmatch(r"\d{1,3}% match", text) for text in signs.all_text_contents())
    visit.accessible()


def test_button_turns_the_page_where_scrolling_does_not(browser):
    lazy = "window.IntersectionObserver = class { observe() {} }"
    for visit in visited(browser, Shop(), lazy, **DESKTOP):
        visit.search()
        expect(visit.titles).to_have_count(12)
        visit.press("Show more")
        expect(visit.titles).to_have_count(36)


def test_prices_narrow_and_order_in_the_shoppers_currency(visit):
    visit.search()
    visit.page.get_by_label("Currency").select_option("USD")
    expect(visit.page.locator(".price").first).to_contain_text("$43.00")
    expect(visit.page.locator(".price small").first).to_have_text("€34.40")
    expect(visit.page.locator("#rates")).to_have_text("Converted at the rate of Oct 30, 2026")
    visit.press("Filters")
    visit.page.get_by_label("Price to").fill("25")
    visit.page.get_by_label("Sort by").select_option("price_asc")
    expect(visit.page.locator(".price").first).to_contain_text("$12.38")
    visit.page.get_by_label("Price from").fill("1,000")
    visit.page.keyboard.press("Enter")
    assert visit.page.evaluate("document.activeElement.matches(':invalid')")
    visit.page.get_by_label("Price from").fill("٢٠٫٥")
    visit.page.keyboard.press("Enter")
    expect(visit.page.locator(".price").first).to_contain_text("$21.13")
    visit.page.get_by_label("Price from").fill("")
    visit.page.get_by_label("Price to").fill("1")
    visit.page.keyboard.press("Enter")
    expect(visit.notice("No product fits these filters.")).to_be_visible()
    visit.accessible()
    visit.page.locator(".notice button").click()
    visit.shows("chair")


def test_categories_are_offered_with_their_counts(visit):
    visit.search()
    visit.press("Filters")
    options = visit.page.get_by_label("Category").locator("option")
    expect(options).to_have_text(["All categories", "Home (90)", "Balls (30)", "Chairs (30)", "Vases (30)"])
    visit.page.get_by_label("Category").select_option("Home/Vases")
    visit.shows("vase")


def test_declared_attributes_narrow_and_offer_their_other_values_still(browser):
    facets = {"colour": {"en": "Colour", "de": "Farbe"}, "legs": {}}
    for visit in visited(browser, Shop(page_settings=PageConfig(facets=facets)), **DESKTOP):
        visit.search()
        visit.press("Filters")
        groups = visit.page.get_by_role("group", name="Colour")
        expect(groups.get_by_role("checkbox")).to_have_count(5)
        visit.accessible()
        groups.get_by_label("teal (18)").check()
        expect(visit.titles.first).to_contain_text("Teal")
        expect(visit.page.get_by_role("group", name="legs").get_by_label("4 (6)")).to_be_visible()
        expect(groups.get_by_label("teal (18)")).to_be_focused()
        groups.get_by_label("coral (18)").check()
        expect(visit.page.get_by_role("group", name="legs").get_by_label("4 (12)")).to_be_visible()
        expect(visit.page.locator("#filtered")).to_have_text("2")
        visit.page.get_by_label("Language").select_option("de")
        german = visit.page.get_by_role("group", name="Farbe")
        expect(german.get_by_role("checkbox", checked=True)).to_have_count(2)
        visit.press(texts(PAGE, "de")["Clear filters"])
        expect(german.get_by_role("checkbox", checked=True)).to_have_count(0)


def test_more_like_this_and_back(visit):
    visit.search()
    visit.page.locator(".further").scroll_into_view_if_needed()
    expect(visit.titles.nth(20)).to_be_visible()
    title = visit.titles.nth(14).text_content()
    visit.press(f"More like this: {title}")
    expect(visit.page.locator(".origin .title")).to_have_text(title)
    assert re.search(r"\?like=\w+-\w+-\d+$", visit.page.url)
    visit.accessible()
    before = visit.titles.count()
    assert before
    visit.press("Back")
    expect(visit.titles.nth(20)).to_be_visible()
    assert visit.page.evaluate("scrollY") > 0
    visit.page.go_forward()
    expect(visit.page.locator(".origin .title")).to_have_text(title)
    visit.page.reload()
    expect(visit.page.locator(".origin .title")).to_have_text(title)
    visit.shows(title.split()[1])
    assert len(visit.shop.uploads) == 1


def test_back_leads_to_the_photo_before(visit):
    visit.search()
    visit.send(scene(1000, 800), field="#another")
    visit.shows("chair")
    visit.press("Sports ball")
    visit.shows("ball")
    visit.page.go_back()
    visit.shows("chair")
    visit.page.go_back()
    expect(visit.page.get_by_text("Choose a photo")).to_be_visible()


def test_link_that_is_shared_holds_products_and_no_photo(visit):
    visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.search()
    titles = visit.titles.all_text_contents()
    visit.press("Share")
    expect(visit.notice("Link copied")).to_contain_text("The link does not hold your photo.")
    link = visit.page.evaluate("navigator.clipboard.readText()")
    assert re.fullmatch(re.escape(visit.address) + r"\?product=chair-teal-1(&product=[a-z]+-[a-z]+-\d+){11}", link)
    visit.page.goto(link)
    expect(visit.page.locator("#found")).to_have_text("Shared products")
    expect(visit.titles).to_have_text(titles)
    expect(visit.page.locator(".price").first).to_have_text("€34.40")
    visit.accessible()
    assert len(visit.shop.uploads) == 1


def test_link_to_what_is_gone_says_so_and_leads_on(visit):
    visit.page.goto(f"{visit.address}?product=gone")
    expect(visit.notice("These products are not here any more.")).to_be_visible()
    visit.accessible()
    expect(visit.page.locator(".notice button")).to_have_text("New photo")


def test_card_leads_to_the_shops_own_page(browser):
    shop = Shop(page_settings=PageConfig(product_url="https://shop.example/p/{product_id}?from=photo"))
    for visit in visited(browser, shop, **DESKTOP):
        visit.search()
        assert visit.page.get_attribute(".card a", "href") == "https://shop.example/p/chair-teal-1?from=photo"
        visit.accessible()


def place_of(shop: Shop, told: Feedback) -> tuple[str, bool]:
    """Return the product that stands where feedback says, and whether that is on a first page."""
    answer = shop.shown[told.request_id]
    (found,) = [each for i, each in enumerate(answer.lists) if (each.object_id or f"o{i}") == told.object_id]
    return found.products[told.position - 1].product_id, found.fixed is not None


def opened(visit: Visit, number: int, **how) -> Feedback:
    """Open a card in a tab of its own, and return what the service is told of it."""
    before = len(visit.shop.told)
    with visit.page.expect_request_finished(lambda request: request.url.endswith("/v1/feedback")):
        visit.page.locator(".card a").nth(number).click(**how)
    assert len(visit.shop.told) == before + 1
    return visit.shop.told[-1]


LISTENING = {
    "takes_feedback": True,
    "page_settings": PageConfig(product_url="/pictures/{product_id}.png"),
}


def test_card_that_is_opened_is_told_with_its_list_and_place(browser):
    for visit in visited(browser, Shop(**LISTENING), **DESKTOP):
        visit.search()
        first = opened(visit, 2, modifiers=["Control"])
        assert (first.act, first.product_id, first.object_id, first.position) == (Act.CLICK, "chair-sand-7", "o0", 3)
        assert place_of(visit.shop, first) == (first.product_id, True)
        visit.press("Sports ball")
        visit.shows("ball")
        visit.page.locator(".further").scroll_into_view_if_needed()
        expect(visit.titles.nth(20)).to_be_visible()
        further = opened(visit, 20, button="middle")
        assert place_of(visit.shop, further) == (further.product_id, False)
        visit.page.locator(".like").nth(20).click()
        expect(visit.page.locator(".origin .title")).to_be_visible()
        similar = opened(visit, 1, modifiers=["Control"])
        assert place_of(visit.shop, similar) == (similar.product_id, True)


def test_shopper_says_that_nothing_fits_once_for_each_list(browser):
    for visit in visited(browser, Shop(**LISTENING), **PHONE):
        visit.search()
        visit.press("Nothing fits")
        expect(visit.notice("Thank you for telling us. Draw a box")).to_be_visible()
        visit.accessible()
        expect(visit.page.locator("#unfit")).to_be_hidden()
        expect(visit.page.locator("#found")).to_be_focused()
        visit.press("Vase")
        visit.shows("vase")
        visit.press("Nothing fits")
        expect(visit.page.locator("#unfit")).to_be_hidden()
        visit.press("Chair")
        expect(visit.page.locator("#unfit")).to_be_hidden()
        visit.page.wait_for_function("() => !document.querySelector('[aria-busy=true]')")
    said = [(each.act, each.object_id, each.product_id, each.position) for each in visit.shop.told]
    assert said == [(Act.NONE_FITS, "o0", None, None)] * 2
    sources = [visit.shop.shown[each.request_id].lists[0].object.source for each in visit.shop.told]
    assert sources == [Source.DETECTOR, Source.SHOPPER]


def test_feedback_that_fails_is_no_matter(browser):
    for visit in visited(browser, Shop(**LISTENING), **DESKTOP):
        visit.search()
        visit.page.route("**/v1/feedback", lambda route: route.abort())
        visit.press("Nothing fits")
        expect(visit.notice("Thank you for telling us.")).to_be_visible()
        visit.press("Sports ball")
        visit.shows("ball")
        visit.page.locator(".card a").first.click()
        visit.page.wait_for_url("**/pictures/ball-*.png")


def test_service_that_takes_no_feedback_is_told_nothing(browser):
    for visit in visited(browser, Shop(**{**LISTENING, "takes_feedback": False}), **DESKTOP):
        asked = asked_of(visit.page)
        visit.search()
        expect(visit.page.get_by_role("button", name="Share")).to_be_visible()
        expect(visit.page.locator("#unfit")).to_be_hidden()
        visit.page.locator(".card a").first.click()
        visit.page.wait_for_url("**/pictures/chair-*.png")
        assert not [each for each in asked if "feedback" in each]


def test_picture_that_can_not_be_had_leaves_a_drawing(visit):
    visit.page.route("**/pictures/**", lambda route: route.abort())
    visit.search()
    expect(visit.page.locator(".image img")).to_have_count(0)
    assert "nothing.svg" in visit.page.locator(".image").first.evaluate(
        "(each) => getComputedStyle(each).backgroundImage"
    )


@pytest.mark.parametrize(
    ("degraded", "said"),
    [
        ("no_object", "Nothing was recognised, so the whole photo was searched."),
        ("no_detector", "Things in photos can't be recognised right now, so the whole photo was searched."),
        ("partial_index", "A part of the catalogue does not answer; some products may be missing."),
    ],
)
def test_what_an_answer_lacks_is_said(visit, degraded, said):
    visit.shop.degraded = (degraded,)
    visit.send()
    expect(visit.notice(said)).to_be_visible()
    expect(visit.titles.first).to_be_visible()
    visit.accessible()


def test_empty_shop_says_so(visit):
    visit.shop.empty = True
    visit.send()
    expect(visit.notice("This shop has no products yet.")).to_be_visible()
    visit.accessible()
    visit.shop.empty = False
    visit.press("Try again")
    visit.shows("chair")


def test_box_without_anything_similar_leads_on(visit):
    visit.search()
    visit.shop.empty = True
    visit.drag(visit.centre("#frame"), visit.of_stage(0.6, 0.6))
    expect(visit.notice("Nothing similar was found. Draw a box around what you look for")).to_be_visible()
    visit.accessible()


def test_missing_index_is_an_empty_shop(visit):
    visit.shop.failures = [IndexMissing("none").after(60)]
    visit.send()
    expect(visit.notice("This shop has no products yet.")).to_be_visible()
    expect(visit.page.locator("#found")).to_have_text("Your photo")
    visit.press("Try again")
    visit.shows("chair")


def test_search_that_is_not_available_is_tried_again_by_itself(visit):
    visit.shop.failures = [MilvusUnavailable("away").after(0.6)]
    visit.send()
    expect(visit.notice("The search is not available right now.")).to_be_visible()
    visit.accessible()
    visit.shows("chair")


def test_overload_is_counted_down_and_tried_again_by_itself(visit):
    visit.shop.failures = [Overloaded("full").after(6)]
    visit.send()
    expect(visit.notice("Too many people are searching. Next try in 6 seconds.")).to_be_visible()
    visit.accessible()
    expect(visit.notice("Next try in 1 second.")).to_be_visible()
    visit.shows("chair")
    expect(visit.page.locator(".notice")).to_have_count(0)


def test_slow_search_says_so(visit):
    visit.shop.delay_s = 8
    visit.send()
    expect(visit.notice("This takes longer than usual …")).to_be_visible()
    visit.accessible()
    visit.shows("chair")
    expect(visit.page.locator(".notice")).to_have_count(0)


def test_photo_and_results_stay_while_the_network_is_away(visit):
    visit.search()
    visit.context.set_offline(True)
    visit.drag(visit.centre("#frame"), visit.of_stage(0.62, 0.62))
    expect(visit.notice("You are offline.")).to_be_visible()
    visit.shows("chair")
    expect(visit.page.locator("#found")).to_have_text("Chair")
    expect(visit.page.locator("#picture")).to_be_visible()
    visit.accessible()
    visit.context.set_offline(False)
    visit.shows("ball")
    expect(visit.page.locator(".notice")).to_have_count(0)


def test_service_that_can_not_be_reached_is_tried_again(visit):
    # Where there is no network but loopback, a browser takes itself for offline.
    visit.page.evaluate("Object.defineProperty(navigator, 'onLine', {get: () => true})")
    visit.page.route("**/v1/search*", lambda route: route.abort())
    visit.send()
    expect(visit.notice("The search is not available right now.")).to_be_visible()
    visit.page.unroute("**/v1/search*")
    visit.shows("chair")


def test_photo_that_is_too_large_is_not_sent(visit):
    visit.send(bytes(visit.shop.max_body_bytes + 1), "image/heic")
    expect(visit.notice("This photo is too large. Try a smaller one.")).to_be_visible()
    assert visit.shop.uploads == []


def test_photo_that_was_taken_offline_is_searched_later(visit):
    visit.context.set_offline(True)
    visit.send()
    expect(visit.notice("You are offline.")).to_be_visible()
    visit.context.set_offline(False)
    visit.shows("chair")


def test_everything_is_reached_by_keys_in_the_order_it_is_seen(visit):
    visit.search()
    visit.page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(16):
        visit.page.keyboard.press("Tab")
        reached.append(visit.page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    chips = ["Chair", "Sports ball", "Vase", "Whole photo"]
    controls = ["back", "another", "language", "currency", "frame", *chips, "smaller", "larger", "filters", "share"]
    assert reached == [*controls, "More like this", "More like this", "More like this"]
    shadow = visit.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert shadow == "solid"


def test_products_are_announced_and_what_was_chosen_keeps_the_focus(visit):
    visit.search()
    expect(visit.page.get_by_role("status")).to_have_text("12 products")
    visit.page.get_by_role("button", name="Vase", exact=True).focus()
    visit.page.keyboard.press("Enter")
    visit.shows("vase")
    expect(visit.page.get_by_role("button", name="Vase", exact=True)).to_be_focused()


@pytest.mark.parametrize("width", [320, 360, 768])
def test_nothing_has_to_be_scrolled_sideways(browser, width):
    for visit in visited(browser, Shop(), viewport={"width": width, "height": 640}, locale="de-DE"):
        visit.send()
        visit.shows("Stuhl")
        visit.press("Filter")
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_dark_and_arabic_are_accessible_too(browser, size):
    for visit in visited(browser, Shop(), locale="ar", color_scheme="dark", **size):
        assert visit.page.get_attribute("html", "dir") == "rtl"
        visit.accessible()
        visit.send()
        visit.shows("كرسي")
        visit.accessible()


def test_language_of_the_browser_is_spoken_from_the_first_byte(browser):
    for visit in visited(browser, Shop(), locale="ja-JP", java_script_enabled=False, **DESKTOP):
        assert visit.page.get_attribute("html", "lang") == "ja"
        expect(visit.page.get_by_text(texts(PAGE, "ja")["Choose a photo"])).to_be_visible()


def test_every_sentence_of_a_language_comes_at_once(visit):
    visit.page.get_by_label("Language").select_option("de")
    expect(visit.page.get_by_text("Foto auswählen")).to_be_visible()
    english = set(texts(PAGE, "en"))
    left = visit.page.evaluate("[...document.querySelectorAll('[data-text]')].map((each) => each.textContent)")
    assert not (set(left) & english) - {"Filter"}, json.dumps(left)
    visit.page.reload()
    expect(visit.page.get_by_text("Foto auswählen")).to_be_visible()
