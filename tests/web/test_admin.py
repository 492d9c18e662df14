"""The page for the shop's own people in Debian's Chromium."""

import pytest
from playwright.sync_api import expect

from serve_app.callers import make_access
from serve_app.config import AuthConfig, Config
from serve_app.pictures import Picture
from tests.unit.test_admin import ADMIN, KEYS, OTHER, SEARCH, FakeBackstage
from tests.web.shop import Shop, picture
from tests.web.test_page import DESKTOP, PHONE, PHOTO, visited


class Office(Shop):
    backstage = FakeBackstage()

    async def picture(self, image_id, width, known):
        return Picture('"t"', picture("ball-teal-0"))


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_admin_signs_in_and_is_told_why_a_product_is_where_it_is(browser, size):
    shop = Office(access=make_access(Config(auth=AuthConfig(keys=KEYS))))
    for visit in visited(browser, shop, **size):
        page = visit.page
        page.goto(f"{visit.address}admin")
        page.get_by_label("Key with the role admin").fill(SEARCH)
        visit.press("Sign in")
        expect(page.get_by_role("alert")).to_contain_text("has the role search")
        visit.accessible()
        page.get_by_label("Key with the role admin").fill(ADMIN)
        visit.press("Sign in")
        expect(page.locator("#who")).to_have_text("Signed in as anna")
        assert page.evaluate("document.cookie") == ""
        expect(page.locator("#indexes")).to_contain_text("products_0_x")
        expect(page.locator("#searches")).to_contain_text("ok")

        visit.press("1 bad_row")
        expect(page.locator("#left")).to_contain_text("of 20261125T000000Z")
        page.set_input_files("#photo", files=[{"name": "p.jpg", "mimeType": "image/jpeg", "buffer": PHOTO}])
        page.get_by_label("Product id").fill("7")
        visit.press("Tell")
        expect(page.locator(".verdict")).to_have_text("It is in the list, further down.")
        expect(page.locator("#answer img")).to_have_count(1)
        expect(page.locator("#answer")).to_contain_text("autumn (bury)")
        visit.accessible()

        page.get_by_label("Photo to compare").set_input_files(
            files=[{"name": "p.jpg", "mimeType": "image/jpeg", "buffer": PHOTO}]
        )
        expect(page.get_by_label("Beside the running model").locator("option")).to_have_text(f"{OTHER}, spring")
        visit.press("Compare")
        expect(page.locator("#sides h4")).to_have_text(["0123456789ab", OTHER])
        expect(page.locator("#sides li").nth(0)).to_contain_text("beside: place 2")
        expect(page.locator("#sides li.asked")).to_have_count(2)
        visit.accessible()

        page.reload()
        expect(page.locator("#who")).to_have_text("Signed in as anna")
        visit.press("Sign out")
        expect(page.get_by_label("Key with the role admin")).to_be_visible()
