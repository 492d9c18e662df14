"""The folder of what browsers find objects with: when it is used, and how it is served."""

import gzip
import json
import logging

import pytest

from serve_app.browser_detector import (
    DESCRIPTION,
    MEDIA_TYPES,
    MODEL,
    RUNTIME,
    BrowserDetector,
    pack,
    read_browser_detector,
)
from serve_app.config import Config, load_config
from serve_app.exporting import described
from serve_app.weights.browser_runtime import SHA256
from serve_app.weights.formats import Format
from serve_app.weights.loader import DETECTOR_SHA256
from tests.unit.test_api import FakeService, code, request
from tests.unit.test_page import FOREVER, settings


@pytest.fixture
def config(tmp_path) -> Config:
    """Return settings whose data directory has all files, the runtime and the model in name alone."""
    folder = tmp_path / "browser"
    folder.mkdir()
    for name in MEDIA_TYPES:
        (folder / name).write_bytes(name.encode() * 500)
    (folder / DESCRIPTION).write_text(json.dumps(described(Format.ONNX, MODEL, DETECTOR_SHA256, 640, ["chair"])))
    return load_config(data_dir=tmp_path)


def found(config: Config) -> BrowserDetector:
    detector = read_browser_detector(config)
    assert detector is not None
    return detector


def serving(detector: BrowserDetector | None) -> FakeService:
    service = FakeService()
    service.browser_detector = detector
    return service


def get(config: Config, name: str, **headers: str):
    detector = found(config)
    return request(serving(detector), "GET", f"/page/detector/{detector.version}/{name}", headers=headers)


def test_names_are_those_of_what_is_fetched():
    assert SHA256.keys() < MEDIA_TYPES.keys()


def test_version_changes_with_every_file(config):
    versions = {found(config).version}
    for name in (*SHA256, MODEL):
        (config.browser_detector_folder / name).write_bytes(b"another")
        versions.add(found(config).version)
    assert len(versions) == 4


def test_page_is_told_where_it_is_and_what_the_service_takes_for_an_object(config):
    detector = found(config)
    told = settings(request(serving(detector), "GET", "/").text)["detector"]
    assert told == {"folder": f"page/detector/{detector.version}", "min_confidence": 0.25, "most": 10}


def test_page_without_one_is_told_of_none(tmp_path):
    assert read_browser_detector(load_config(data_dir=tmp_path)) is None
    assert settings(request(serving(None), "GET", "/").text)["detector"] is None
    assert code(request(serving(None), "GET", f"/page/detector/0123456789ab/{MODEL}")) == (404, "not_found")


@pytest.mark.parametrize("missing", MEDIA_TYPES)
def test_folder_that_lacks_a_file_is_not_used(config, missing, caplog):
    (config.browser_detector_folder / missing).unlink()
    with caplog.at_level(logging.WARNING):
        assert read_browser_detector(config) is None
    assert caplog.records[0].way_on.startswith("run `shoplens weights browser`")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"detector_sha256": "0" * 64}, "other weights"),
        ({"input": {"shape": [1, 3, 320, 320]}}, "side_px"),
    ],
)
def test_detector_that_is_not_the_services_own_is_not_used(config, change, said, caplog):
    told = described(Format.ONNX, MODEL, DETECTOR_SHA256, 640, ["chair"]) | change
    (config.browser_detector_folder / DESCRIPTION).write_text(json.dumps(told))
    with caplog.at_level(logging.WARNING):
        assert read_browser_detector(config) is None
    assert said in caplog.records[0].cause


@pytest.mark.parametrize("packed", [True, False])
def test_files_are_kept_for_good_and_sent_compressed_where_they_lie_so(config, packed):
    if packed:
        pack(config.browser_detector_folder)
    for name, kind in MEDIA_TYPES.items():
        response = get(config, name, **{"Accept-Encoding": "gzip, br"})
        assert response.content == (config.browser_detector_folder / name).read_bytes()
        assert response.headers["content-encoding"] == ("gzip" if packed else "identity")
        assert response.headers["content-type"].startswith(kind)
        assert (response.headers["cache-control"], response.headers["vary"]) == (FOREVER, "Accept-Encoding")


def test_browser_that_takes_nothing_compressed_gets_the_file_itself(config):
    pack(config.browser_detector_folder)
    response = get(config, RUNTIME, **{"Accept-Encoding": "identity"})
    assert response.content == (config.browser_detector_folder / RUNTIME).read_bytes()
    assert gzip.decompress((config.browser_detector_folder / f"{RUNTIME}.gz").read_bytes()) == response.content


def test_files_of_two_versions_are_never_mixed(config):
    assert code(request(serving(found(config)), "GET", f"/page/detector/0123456789ab/{MODEL}")) == (404, "not_found")


@pytest.mark.parametrize("name", ["yolo26n.onnx.gz", "..%2F..%2Frates.csv", "other"])
def test_what_is_no_file_of_the_detector_is_not_found(config, name):
    pack(config.browser_detector_folder)
    assert code(get(config, name)) == (404, "not_found")


def test_worker_has_a_policy_of_its_own():
    page = request(serving(None), "GET", "/").text
    worker = page.split('src="')[1].split('"')[0].replace("app.js", "detector.worker.js")
    response = request(serving(None), "GET", f"/{worker}")
    assert response.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert "detector.worker.js" not in page
