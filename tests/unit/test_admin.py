"""/admin: who gets in, and what it tells."""

import re
from datetime import UTC, datetime

import pytest

from serve_app.api.admin_session import COOKIE, TOKEN
from serve_app.api.page_routes import read_assets
from serve_app.calibration import Chances
from serve_app.catalogue.past import LeftOut, PastImport
from serve_app.collection import IndexInfo
from serve_app.config import AuthConfig, PageConfig
from serve_app.errors import UnknownImage, UnknownModel, UnknownProduct
from serve_app.keys import Role, new_key
from serve_app.pictures import Picture
from serve_app.pipeline import ProductList
from serve_app.rules import Action, Rule
from serve_app.shadow import Shadow
from serve_app.side_by_side import Candidate, Side
from serve_app.why import Place, Reason, Why
from tests.unit.builders import curve, hit
from tests.unit.test_api import CHAIR, FakeService, code, request

ADMIN, ADMIN_KEY = new_key("anna", Role.ADMIN)
SEARCH, SEARCH_KEY = new_key("app", Role.SEARCH)
KEYS = f"{ADMIN_KEY.line}\n{SEARCH_KEY.line}"
HOST = "http://127.0.0.1:8000"
OWN = {"Origin": HOST, "Sec-Fetch-Site": "same-origin"}
OTHER = "ba9876543210"
CREATED = datetime(2026, 11, 25, tzinfo=UTC)
ASSETS = read_assets("admin_page")


class FakeBackstage:
    def searches(self):
        return [{"at_ms": 1, "what": "search", "code": "ok"}]

    async def imports(self):
        return [PastImport("20261125T000000Z", "m.csv", "2026-11-25T00:00:00+00:00", 1.5, {"rows": 2}, {"bad_row": 1})]

    async def left_out(self, name):
        return [LeftOut(3, "1.jpg", "7", "bad_row", f"of {name}")]

    async def picture(self, name, row, known):
        if row != 3:
            raise UnknownImage("none")
        return Picture('"t"', b"jpeg")

    async def indexes(self):
        return [IndexInfo("products_0", "products_0_x", "0" * 12, 5, True, "FLAT", CREATED)]

    async def models(self):
        return [
            Candidate("0123456789ab", "this release's own", "products_0_x", running=True),
            Candidate(OTHER, "spring", "products_1_x", running=False),
        ]

    def shadow(self):
        return Shadow(OTHER, "a")

    async def compare(self, photo, model, query):
        self.asked = (photo, model, query)
        if model != OTHER:
            raise UnknownModel("the registry has no model of that name")
        one, other = (
            (hit("7", 0.5, "i7", title="Chair"), hit("8", 0.9)),
            (hit("9", 0.8), hit("7", 0.4, "i7", title="Chair")),
        )
        chances = Chances.of(curve(), 0.5, one[::-1])
        return (
            Side("0123456789ab", "products_0_x", (ProductList(CHAIR, one, chances=chances),)),
            Side(OTHER, "products_1_x", (ProductList(CHAIR, other),)),
        )

    async def why(self, photo, product_id, query):
        self.asked = (photo, product_id, query)
        if product_id == "none":
            raise UnknownProduct("the index has no such product")
        product = hit("7", 0.5, "i7", title="Chair")
        place = Place(CHAIR, Reason.FURTHER_DOWN, 12, 0.5, product, (hit("8", 0.9),))
        return Why(product, 2, Rule("autumn", Action.BURY), (place,), "0" * 12, "products_0_x")


def service(keys: str = KEYS) -> FakeService:
    made = FakeService(auth=AuthConfig(keys=keys))
    made.backstage = FakeBackstage()
    return made


def ask(path: str, method: str = "GET", key: str = ADMIN, made: FakeService | None = None, **options):
    headers = {"Cookie": f"{COOKIE}={key}", **options.pop("headers", {})} if key else options.pop("headers", {})
    return request(made or service(), method, f"/admin{path}", headers=headers, **options)


def token() -> str:
    return ask("/session").json()["csrf"]


ANSWERS = ("session", "overview", "shadow", "models", "searches", "imports", "imports/20261125T000000Z", "images/i7")


def test_key_becomes_a_cookie_that_no_script_reads_and_no_other_path_gets():
    response = ask("/session", "POST", "", json={"key": f" {ADMIN}\n"}, headers=OWN)
    cookie = response.headers["set-cookie"]
    assert (response.status_code, response.headers["cache-control"]) == (200, "no-store")
    assert cookie.startswith(f"{COOKIE}={ADMIN};")
    assert {"HttpOnly", "SameSite=strict", "Path=/admin", "Max-Age=28800"} <= {
        part.strip() for part in cookie.split(";")
    }
    assert ADMIN not in response.text


@pytest.mark.parametrize(("key", "problem"), [("shoplens_x", (401, "key_unknown")), (SEARCH, (403, "forbidden"))])
def test_other_keys_get_no_cookie(key, problem):
    response = ask("/session", "POST", "", json={"key": key}, headers=OWN)
    assert code(response) == problem
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_page_of_another_site_signs_nobody_in(headers):
    assert code(ask("/session", "POST", "", json={"key": ADMIN}, headers=headers)) == (403, "forbidden")


@pytest.mark.parametrize("path", ANSWERS)
@pytest.mark.parametrize(("key", "problem"), [("", (401, "key_required")), (SEARCH, (403, "forbidden"))])
def test_nothing_is_told_without_an_admins_key(path, key, problem):
    assert code(ask(f"/{path}", key=key)) == problem


def test_cookie_opens_nothing_beside_admin():
    response = request(service(), "GET", "/metrics", headers={"Cookie": f"{COOKIE}={ADMIN}"})
    assert code(response) == (401, "key_required")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {TOKEN: "0" * 64},
        {TOKEN: "own", "Origin": "https://evil.example"},
        {TOKEN: "own", "Sec-Fetch-Site": "same-site"},
    ],
)
@pytest.mark.parametrize("path", ["/why?product_id=7", f"/compare?model={OTHER}"])
def test_photo_is_taken_from_this_page_alone(path, headers):
    made = {name: token() if value == "own" else value for name, value in headers.items()}
    response = ask(path, "POST", headers=made, files={"photo": b"photo"})
    assert code(response) == (403, "forbidden")


def test_token_is_another_one_for_each_key_and_tells_nothing_of_it():
    other, key = new_key("otto", Role.ADMIN)
    made = service(f"{ADMIN_KEY.line}\n{key.line}")
    tokens = {ask("/session", key=each, made=made).json()["csrf"] for each in (ADMIN, other)}
    assert len(tokens) == 2
    assert not any(ADMIN[9:20] in each for each in tokens)


def test_answer_says_why_a_product_is_where_it_is():
    made = service()
    query = "product_id=7&category=Men/Tops&in_stock=true&top_k=3"
    response = ask(f"/why?{query}", "POST", made=made, headers={TOKEN: token(), **OWN}, files={"photo": b"photo"})
    told = response.json()
    assert (told["rule"], told["product"]["title"]) == ({"name": "autumn", "action": "bury"}, "Chair")
    (place,) = told["places"]
    assert (place["object"], place["reason"], place["rank"], place["view"]) == ("chair", "further_down", 12, "whole")
    photo, product_id, asked = made.backstage.asked
    assert (photo, product_id, asked.top_k) == (b"photo", "7", 3)
    assert (asked.wanted.categories, asked.wanted.in_stock) == (("Men/Tops",), True)


def test_models_that_can_be_compared_are_named_the_running_one_first():
    told = ask("/models").json()
    assert [(each["fingerprint"], each["name"], each["running"]) for each in told] == [
        ("0123456789ab", "this release's own", True),
        (OTHER, "spring", False),
    ]


def test_two_models_are_told_side_by_side():
    made = service()
    path = f"/compare?model={OTHER}&category=Men/Tops&top_k=3"
    response = ask(path, "POST", made=made, headers={TOKEN: token(), **OWN}, files={"photo": b"photo"})
    one, other = response.json()
    assert (one["model"], one["collection"]) == ("0123456789ab", "products_0_x")
    assert (other["model"], other["lists"][0]["object"]) == (OTHER, "chair")
    found = [[each["product_id"] for each in side["lists"][0]["products"]] for side in (one, other)]
    assert found == [["7", "8"], ["9", "7"]]
    told = [[each["match"] is not None for each in side["lists"][0]["products"]] for side in (one, other)]
    assert told == [[True, True], [False, False]]
    photo, model, asked = made.backstage.asked
    assert (photo, model, asked.top_k, asked.wanted.categories) == (b"photo", OTHER, 3, ("Men/Tops",))


@pytest.mark.parametrize(
    ("query", "problem"),
    [("model=none", (404, "unknown_model")), ("", (422, "bad_parameter")), ("model=a&x=1", (422, "bad_parameter"))],
)
def test_comparison_that_can_not_be_made_is_refused(query, problem):
    response = ask(f"/compare?{query}", "POST", headers={TOKEN: token(), **OWN}, files={"photo": b"photo"})
    assert code(response) == problem


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("product_id=none", (404, "unknown_product")),
        ("", (422, "bad_parameter")),
        ("product_id=7&x=1", (422, "bad_parameter")),
    ],
)
def test_question_that_can_not_be_answered_is_refused(query, problem):
    response = ask(f"/why?{query}", "POST", headers={TOKEN: token(), **OWN}, files={"photo": b"photo"})
    assert code(response) == problem


def test_overview_names_model_and_indexes():
    told = ask("/overview").json()
    assert (told["model"], told["rules"], told["reason"]) == ("0123456789ab", 0, "")
    assert told["indexes"][0] | {"created": ""} == {
        "alias": "products_0", "collection": "products_0_x", "fingerprint": "0" * 12, "rows": 5, "loaded": True,
        "index_type": "FLAT", "created": "",
    }  # fmt: skip


def test_imports_are_told_with_what_they_left_out():
    assert ask("/imports").json()[0]["problems"] == {"bad_row": 1}
    assert ask("/imports/20261125T000000Z").json()[0]["reason"] == "of 20261125T000000Z"
    assert ask("/imports/20261125T000000Z/3/picture").content == b"jpeg"
    assert code(ask("/imports/20261125T000000Z/4/picture")) == (404, "unknown_image")


def test_laptop_needs_no_key_but_its_own_page():
    made = FakeService()
    made.backstage = FakeBackstage()
    found = ask("/session", key="", made=made).json()
    assert not found["has_key"]
    named = {TOKEN: found["csrf"]}
    for headers, status in (({**named, **OWN}, 200), ({**named, "Origin": "http://evil.example"}, 403), (OWN, 403)):
        assert ask("/why?product_id=7", "POST", "", made, headers=headers, files={"photo": b"p"}).status_code == status
    assert ask("/session", key="", made=made, headers={"Host": "evil.example"}).status_code == 403


def test_signing_out_takes_the_cookie_back():
    response = ask("/session", "DELETE", headers={TOKEN: token(), **OWN})
    assert response.headers["set-cookie"].startswith(f'{COOKIE}=""; ')
    assert code(ask("/session", "DELETE", headers=OWN)) == (403, "forbidden")


def test_page_is_its_own_and_may_be_framed_by_none():
    made = service()
    made.page_settings = PageConfig(picture_sources=("https://cdn.example.com",))
    response = request(made, "GET", "/admin")
    policy = dict(part.strip().split(" ", 1) for part in response.headers["content-security-policy"].split(";"))
    assert (policy["script-src"], policy["connect-src"], policy["frame-ancestors"]) == ("'self'", "'self'", "'none'")
    assert policy["img-src"] == "'self' blob: data: https://cdn.example.com"
    assert policy["default-src"] == policy["form-action"] == "'none'"
    for path in re.findall(r'(?:src|href)="([^"]+)"', response.text):
        assert path.startswith(f"admin/files/{ASSETS.version}/")
        assert request(made, "GET", f"/{path}").status_code == 200


def test_files_of_the_page_load_nothing_from_elsewhere_and_need_no_weaker_policy():
    for name, data in ASSETS.files.items():
        text = data.decode()
        assert "SPDX-License-Identifier" in text[:400], name
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), name
        weaker = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|\sstyle=|\son\w+="
        assert not re.search(weaker, text), name


def test_admin_is_no_part_of_the_apis_description():
    assert not [path for path in request(service(), "GET", "/openapi.json").json()["paths"] if "admin" in path]
