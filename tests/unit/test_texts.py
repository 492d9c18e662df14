"""The catalogues hold every text, with the right forms, and say where they come from."""

import re
from gettext import c2py
from importlib.resources import files

import pytest
from babel import Locale

from serve_app.languages import LANGUAGES
from serve_app.texts import LABELS, PAGE, PLURALS, catalogue, label, template, texts, unchecked

PLACEHOLDER = re.compile(r"\{\w+\}")
TRANSLATED = sorted(set(LANGUAGES) - {"en"})
ALL = [(domain, language) for domain in (PAGE, LABELS) for language in TRANSLATED]


def strings(value):
    return [value] if isinstance(value, str) else list(value)


@pytest.mark.parametrize(("domain", "language"), ALL)
def test_every_text_is_translated_and_none_is_left_over(domain, language):
    wanted = {message.id for message in template(domain) if message.id}
    there = {message.id: message for message in catalogue(domain, language) if message.id}
    assert set(there) == wanted
    for message in there.values():
        assert all(strings(message.string)), message.id
        for text in strings(message.string):
            assert set(PLACEHOLDER.findall(text)) == set(PLACEHOLDER.findall(strings(message.id)[-1])), text


@pytest.mark.parametrize(("domain", "language"), ALL)
def test_header_names_the_origin_and_what_nobody_vouches_for_is_marked(domain, language):
    found = catalogue(domain, language)
    assert "Origin" in found.header_comment
    assert "written by a machine" in found.header_comment
    for message in found:
        if message.id:
            vouched = any(comment.startswith(("CLDR ", "Checked by ")) for comment in message.user_comments)
            assert message.fuzzy != vouched, message.id


@pytest.mark.parametrize("language", TRANSLATED)
def test_plural_forms_are_cldrs_categories(language):
    found = catalogue(PAGE, language)
    form, category = c2py(found.plural_expr), Locale.parse(language).plural_form
    assert found.num_plurals == len(PLURALS[language])
    for number in [*range(1_200), 10**6, 10**6 + 1, 2 * 10**6]:
        assert PLURALS[language][form(number)] == category(number), number


def test_unchecked_translations_are_counted():
    file = files("serve_app").joinpath("locales", "de", "LC_MESSAGES", "labels.po")
    assert unchecked(LABELS, "de") == file.read_text(encoding="utf-8").count("\n#, fuzzy\n")
    assert unchecked(LABELS, "en") == 0


def test_the_detectors_labels_are_the_80_of_coco():
    names = [message.id for message in template(LABELS) if message.id]
    assert len(names) == 80
    assert {"person", "chair", "hair drier", "cell phone"} <= set(names)


def test_labels_are_named_in_the_readers_language():
    assert label("chair", "ja") == "椅子"
    assert label("chair", "en") == "chair"
    assert label("sofa bed", "ja") == "sofa bed"


def test_texts_come_with_a_form_for_each_category():
    assert texts(PAGE, "de")["{count} product"] == {"one": "{count} Produkt", "other": "{count} Produkte"}
    assert set(texts(PAGE, "ar")["{count} product"]) == set(PLURALS["ar"])
    assert texts(PAGE, "en")["{count} product"] == {"one": "{count} product", "other": "{count} products"}
    assert texts(PAGE, "th")["Back"] == "กลับ"


def test_there_is_no_catalogue_of_another_language():
    folders = {entry.name for entry in files("serve_app").joinpath("locales").iterdir() if entry.is_dir()}
    assert folders == set(TRANSLATED)
