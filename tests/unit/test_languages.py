"""A reader gets the best of our languages, and a text in the best of the shop's."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.errors import BadParameter
from serve_app.languages import LANGUAGES, REGIONAL, Reader, reader, translated


@pytest.mark.parametrize(
    ("header", "tag"),
    [
        (None, "en"),
        ("", "en"),
        ("*", "en"),
        ("de", "de"),
        ("de-AT,de;q=0.9", "de-AT"),
        ("de-LI, fr;q=0.9", "de"),
        ("da, fr;q=0.8, en;q=0.9", "en"),
        ("fr;q=0, ja;q=0.1", "ja"),
        ("fr ; q=0.5 , ja", "ja"),
        ("EN_us", "en"),
        ("iw", "he"),
        ("in-ID", "id"),
        ("zh-Hant-TW", "zh-TW"),
        ("zh-Hans-CN", "zh"),
        ("zh-HK", "zh-HK"),
        ("cmn-Hans", "zh"),
        ("q=1;;,é,de;q=2,sv", "sv"),
        ("x" * 5000 + ",de", "en"),
    ],
)
def test_header_chooses_the_language(header, tag):
    assert reader(None, header).tag == tag


@settings(deadline=None)
@given(st.text())
def test_no_header_is_an_error(header):
    assert reader(None, header).language in LANGUAGES


def test_what_is_asked_for_wins_over_the_header():
    assert reader("ja", "de").tag == "ja"
    assert reader("pt-pt", "de").tag == "pt-PT"
    assert reader("de-DE").tag == "de"


@pytest.mark.parametrize("language", ["", "xx", "da", "*", "de;q=1", "d" * 500])
def test_a_language_without_texts_is_refused(language):
    with pytest.raises(BadParameter, match="there are no texts in the language"):
        reader(language)


def test_there_are_twenty_languages_and_two_are_written_from_the_right():
    assert len(LANGUAGES) == 20
    assert {tag for tag in LANGUAGES if Reader(tag).direction == "rtl"} == {"ar", "he"}


def test_fallback_goes_from_region_to_language_to_english():
    assert Reader("de-AT").chain == ("de-AT", "de", "en")
    assert Reader("zh-TW").chain == ("zh-TW", "zh-Hant", "zh", "en")
    assert Reader("en").chain == ("en",)
    assert all(Reader(tag).language in LANGUAGES for tag in REGIONAL)


@pytest.mark.parametrize(
    ("texts", "tag", "found"),
    [
        ({"de": "Stuhl", "en": "chair"}, "de-AT", "Stuhl"),
        ({"de": "Stuhl", "de-AT": "Sessel"}, "de-AT", "Sessel"),
        ({"de-DE": "Stuhl", "en": "chair"}, "de", "Stuhl"),
        ({"DE_de": "Stuhl", "en": "chair"}, "de", "Stuhl"),
        ({"zh-Hant": "椅", "zh": "椅子"}, "zh-TW", "椅"),
        ({"ja": "椅子", "en": "chair"}, "fr", "chair"),
        ({"fr": "", "en": "chair"}, "fr", "chair"),
        ({"den": "x"}, "de", None),
        ({"ja": "椅子"}, "fr", None),
        ({}, "fr", None),
    ],
)
def test_text_is_the_first_of_the_chain(texts, tag, found):
    assert translated(texts, Reader(tag).chain) == found
