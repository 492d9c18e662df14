"""The page's files, and how they are served."""

import io
import json
import re
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

import serve_app.api.source as source_module
from serve_app.api.page_routes import FOREVER, HTML, SCRIPT_BYTES, content_security_policy, read_assets
from serve_app.config import PageConfig
from serve_app.languages import LANGUAGES
from serve_app.texts import PAGE, template, texts
from tests.unit.test_api import RATES, FakeService, code, request

ASSETS = read_assets()
ENGLISH = {message.id if isinstance(message.id, str) else message.id[0] for message in template(PAGE) if message.id}
SCRIPTS = {name: data.decode() for name, data in ASSETS.files.items() if name.endswith(".js")}
DOCUMENT = ASSETS.files[HTML].decode()


def get(path: str, service: FakeService | None = None, **headers: str):
    return request(service or FakeService(), "GET", path, headers=headers)


def settings(html: str) -> dict:
    return json.loads(re.search(r'<script id="settings"[^>]*>(.*?)</script>', html, re.DOTALL)[1])


def test_scripts_are_small_enough_for_phones():
    assert sum(len(data.encode()) for data in SCRIPTS.values()) <= SCRIPT_BYTES


@pytest.mark.parametrize("name", sorted(ASSETS.files))
def test_every_file_names_its_licence(name):
    assert b"SPDX-License-Identifier: Apache-2.0" in ASSETS.files[name][:400]


def test_nothing_is_loaded_from_elsewhere():
    for name, data in ASSETS.files.items():
        addresses = re.findall(r"https?://[^\s\"'`)]+", data.decode())
        assert set(addresses) <= {"http://www.w3.org/2000/svg"}, name


def test_nothing_in_the_page_needs_a_weaker_policy():
    assert not re.search(r"\son\w+=|\sstyle=|javascript:|<style", DOCUMENT)
    for name, script in SCRIPTS.items():
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", script), (
            name
        )


def test_page_says_what_the_catalogues_hold_and_no_more():
    named = set(re.findall(r"\{\{([^@{}][^{}]*)\}\}", DOCUMENT)) | set(
        re.findall(r'data-(?:text|alt)="([^"]+)"', DOCUMENT)
    )
    assert "This page needs JavaScript." in named
    asked = {each for script in SCRIPTS.values() for each in re.findall(r'\btext\(\s*"([^"]+)"', script)}
    quoted = {each for script in SCRIPTS.values() for each in re.findall(r'"([^"\n]+)"', script)}
    assert named | asked <= ENGLISH
    assert named | (quoted & ENGLISH) == ENGLISH


def test_page_is_in_the_readers_language():
    response = get("/", **{"Accept-Language": "da, ar;q=0.5"})
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["content-language"] == "ar"
    assert "Accept-Language" in response.headers["vary"]
    assert '<html lang="ar" dir="rtl">' in response.text
    assert "التقاط صورة" in response.text
    assert settings(response.text)["labels"]["chair"] == "كرسي"
    assert "{{" not in response.text


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_language_in_the_address_goes_first(language):
    response = get(f"/?language={language}", **{"Accept-Language": "fi"})
    assert settings(response.text)["language"] == language


def test_language_that_is_not_known_is_no_reason_to_show_nothing():
    assert get("/?language=tlh").headers["content-language"] == "en"


def test_shop_speaks_its_own_language_to_who_asks_for_none():
    service = FakeService()
    service.markets = replace(service.markets, language="pl")
    assert get("/", service).headers["content-language"] == "pl"


def test_currencies_are_those_that_have_a_rate():
    assert settings(get("/").text)["currencies"] == []
    assert settings(get("/", FakeService(rates=RATES)).text)["currencies"] == ["EUR", "USD"]


@pytest.mark.parametrize("taken", [True, False])
def test_page_knows_whether_feedback_is_taken(taken):
    service = FakeService()
    service.takes_feedback = taken
    assert settings(get("/", service).text)["feedback"] is taken


def test_text_can_not_end_the_script_that_holds_it():
    service = FakeService()
    service.page_settings = PageConfig(product_url="https://shop.example/</script>{product_id}")
    assert settings(get("/", service).text)["product_url"] == "https://shop.example/</script>{product_id}"


def test_policy_lets_pictures_come_from_where_the_shop_says():
    service = FakeService()
    service.page_settings = PageConfig(picture_sources=("https://cdn.example.com", "https://*.example.org:8443"))
    policy = dict(
        part.strip().split(" ", 1) for part in get("/", service).headers["content-security-policy"].split(";")
    )
    assert policy["img-src"] == "'self' blob: data: https://cdn.example.com https://*.example.org:8443"
    assert (policy["default-src"], policy["connect-src"]) == ("'none'", "'self'")
    assert policy["script-src"] == "'self' 'wasm-unsafe-eval'"
    assert "unsafe-inline" not in content_security_policy(PageConfig())


@pytest.mark.parametrize("source", ["cdn.example.com", "https://a b", "https://a;script-src *", "*", "data:"])
def test_source_of_pictures_that_is_none_is_refused(source):
    with pytest.raises(ValueError, match="picture_sources"):
        PageConfig(picture_sources=(source,))


@pytest.mark.parametrize("address", ["javascript:{product_id}", "https://shop.example/p", "https://s.example/{id}"])
def test_address_of_products_that_is_none_is_refused(address):
    with pytest.raises(ValueError, match="product_url"):
        PageConfig(product_url=address)


def test_files_are_kept_by_browsers_for_as_long_as_they_are_the_same():
    for name in (*SCRIPTS, "style.css", "icon.svg"):
        response = get(f"/page/{ASSETS.version}/{name}")
        assert response.content == ASSETS.files[name]
        assert response.headers["cache-control"] == FOREVER
        assert response.headers["x-content-type-options"] == "nosniff"
    assert get(f"/page/{ASSETS.version}/app.js").headers["content-type"] == "text/javascript; charset=utf-8"


def test_file_of_another_version_is_not_kept():
    assert get("/page/0123456789ab/app.js").headers["cache-control"] == "no-cache"


def test_page_that_is_the_same_is_not_sent_again():
    etag = get("/").headers["etag"]
    again = get("/", **{"If-None-Match": f'"other", W/{etag}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == etag
    assert get("/?language=de", **{"If-None-Match": etag}).status_code == 200


@pytest.mark.parametrize("name", ["index.html", "nothing.js", "..%2Fapp.py", "app"])
def test_what_is_no_file_of_the_page_is_not_found(name):
    assert code(get(f"/page/{ASSETS.version}/{name}")) == (404, "not_found")


def test_texts_of_another_language_come_alone():
    answer = get("/page/texts/he").json()
    assert (answer["language"], answer["direction"]) == ("he", "rtl")
    assert answer["texts"] == texts(PAGE, "he")
    assert code(get("/page/texts/tlh")) == (422, "bad_parameter")


def test_page_is_no_part_of_the_apis_description():
    assert not [path for path in get("/openapi.json").json()["paths"] if path == "/" or path.startswith("/page")]


def test_page_and_description_lead_to_the_source_of_the_running_version():
    (link,) = re.findall(r'<a href="([^"]+)" data-text="Source code">', get("/").text)
    assert get("/openapi.json").json()["externalDocs"]["url"] == f"/{link}"
    archive = get(f"/{link}")
    assert archive.headers["content-type"] == "application/gzip"
    with tarfile.open(fileobj=io.BytesIO(archive.content)) as source:
        names = source.getnames()
        (own,) = [name for name in names if name.endswith("/serve_app/api/source.py")]
        assert source.extractfile(own).read() == Path(source_module.__file__).read_bytes()
    assert not [name for name in names if name.endswith((".pyc", ".safetensors")) or "__pycache__" in name]
    assert [name for name in names if name.endswith("/serve_app/api/page/index.html")]


def test_operator_may_name_where_the_source_is():
    service = FakeService()
    service.page_settings = PageConfig(source_url="https://code.example.com/shoplens?version=1&x=2")
    assert 'href="https://code.example.com/shoplens?version=1&amp;x=2"' in get("/", service).text
    assert get("/openapi.json", service).json()["externalDocs"]["url"] == service.page_settings.source_url
    with pytest.raises(ValueError, match="source_url"):
        PageConfig(source_url="javascript:alert(1)")
