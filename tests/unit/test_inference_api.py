"""The Open Inference Protocol over a service of canned answers."""

import base64
import json

import numpy as np
import pytest

from serve_app.config import AuthConfig
from serve_app.domain import Box, Detection
from serve_app.errors import Overloaded
from serve_app.inference import Inference
from serve_app.keys import Role, new_key
from serve_app.pipeline import Embedded, Sighting
from tests.unit.test_api import FakeService, request
from tests.unit.test_pipeline import CHAIR, FakeDetector, FakeEmbedder

DETECTOR, EMBEDDER = "/v2/models/detector", "/v2/models/embedder"
VERSION = FakeService.detector_sha256[:12]
ROWS = np.linspace(-1, 1, 512, dtype=np.float32).reshape(2, 256)
SEARCHING, SEARCHER = new_key("app", Role.SEARCH, per_minute=3)


class ModelService(FakeService):
    """See one chair in every photo, and embed as told."""

    max_body_bytes = 100

    def __init__(self, error: Exception | None = None, **options) -> None:
        super().__init__(**options)
        self.error = error
        self.away: set[str] = set()
        self.asked: list[bytes | tuple[bytes, ...]] = []

    async def see(self, photo: bytes) -> Sighting:
        self.asked.append(photo)
        if self.error:
            raise self.error
        found = Detection(Box(0.1, 0.2, 0.3, 0.4), "chair", 0.83)
        return Sighting(640, 480, (found,), np.zeros((0, 2, 2, 3), np.uint8), 1.0)

    async def embed(self, photos: tuple[bytes, ...]) -> Embedded:
        self.asked.append(photos)
        return Embedded(ROWS[: len(photos)], self.fingerprint)

    def is_there(self, stage: str) -> bool:
        return stage not in self.away


def tensor(*photos: bytes, **changes: object) -> dict:
    data = [base64.b64encode(photo).decode() for photo in photos]
    return {"name": "image", "shape": [len(photos)], "datatype": "BYTES", "data": data, **changes}


def infer(service: FakeService, path: str, *photos: bytes, body: object = None, **headers: str):
    given = body if body is not None else {"inputs": [tensor(*photos)]}
    return request(service, "POST", f"{path}/infer", json=given, headers=headers)


def refused(response) -> int:
    assert response.headers["content-type"] == "application/json"
    assert set(response.json()) == {"error"}
    assert response.json()["error"]
    return response.status_code


def test_detector_tells_what_it_finds():
    service = ModelService()
    answer = infer(service, DETECTOR, body={"id": "42", "inputs": [tensor(b"a photo")]}).json()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("detector", VERSION, "42")
    assert {each["name"]: (each["datatype"], each["shape"], each["data"]) for each in answer["outputs"]} == {
        "box": ("FP32", [1, 4], [0.1, 0.2, 0.3, 0.4]),
        "confidence": ("FP32", [1], [0.83]),
        "label": ("BYTES", [1], ["chair"]),
        "size": ("INT32", [2], [640, 480]),
    }
    assert service.asked == [b"a photo"]
    assert service.counted == ["ok"]


def test_embedder_embeds_each_photo():
    answer = infer(ModelService(), EMBEDDER, b"one", b"two").json()
    (output,) = answer["outputs"]
    assert (output["name"], output["shape"]) == ("embedding", [2, 256])
    np.testing.assert_allclose(np.array(output["data"]).reshape(2, 256), ROWS, atol=1e-7)
    assert "id" not in answer


def test_only_asked_outputs_are_sent():
    body = {"inputs": [tensor(b"a photo")], "outputs": [{"name": "label"}]}
    assert [each["name"] for each in infer(ModelService(), DETECTOR, body=body).json()["outputs"]] == ["label"]


def test_answers_have_the_shapes_that_the_metadata_tell():
    for path, photos in ((DETECTOR, [b"a"]), (EMBEDDER, [b"a", b"b"])):
        told = request(ModelService(), "GET", path).json()
        assert told["inputs"][0]["name"] == "image"
        outputs = infer(ModelService(), path, *photos).json()["outputs"]
        for said, is_so in zip(told["outputs"], outputs, strict=True):
            assert (said["name"], said["datatype"]) == (is_so["name"], is_so["datatype"])
            assert all(want in (-1, size) for want, size in zip(said["shape"], is_so["shape"], strict=True))
            assert len(is_so["data"]) == np.prod(is_so["shape"])


def test_a_version_may_be_named():
    assert request(ModelService(), "GET", f"{DETECTOR}/versions/{VERSION}").json()["versions"] == [VERSION]
    assert infer(ModelService(), f"{DETECTOR}/versions/{VERSION}", b"a photo").is_success
    assert refused(infer(ModelService(), f"{DETECTOR}/versions/1", b"a photo")) == 404
    assert refused(request(ModelService(), "GET", "/v2/models/classifier")) == 404


def test_readiness_is_that_of_the_models_stage():
    service = ModelService()
    assert request(service, "GET", f"{DETECTOR}/ready").json() == {"name": "detector", "ready": True}
    service.away = {"Detector"}
    response = request(service, "GET", f"{DETECTOR}/ready")
    assert (response.status_code, response.json()["ready"]) == (503, False)
    assert request(service, "GET", f"{EMBEDDER}/ready").is_success


def test_server_and_its_health_are_told_as_the_protocol_has_it():
    assert request(ModelService(), "GET", "/v2").json()["extensions"] == []
    assert request(ModelService(), "GET", "/v2/health/live").json()["live"] is True
    assert request(ModelService(), "GET", "/v2/health/ready").json()["ready"] is True


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ([], 422),
        ({}, 422),
        ({"inputs": []}, 422),
        ({"inputs": [tensor(b"a"), tensor(b"a")]}, 422),
        ({"inputs": [tensor(b"a", name="pixels")]}, 422),
        ({"inputs": [tensor(b"a", datatype="UINT8")]}, 422),
        ({"inputs": [tensor(b"a", shape=[2])]}, 422),
        ({"inputs": [tensor(b"a", shape=[-1])]}, 422),
        ({"inputs": [tensor()]}, 422),
        ({"inputs": [tensor(b"a", b"b")]}, 422),
        ({"inputs": [tensor(b"a", data=["no base64!"])]}, 422),
        ({"inputs": [tensor(b"a", data=[1])]}, 422),
        ({"inputs": [tensor(b"")]}, 400),
        ({"inputs": [tensor(bytes(101))]}, 413),
        ({"inputs": [tensor(b"a")], "id": "x" * 257}, 422),
        ({"inputs": [tensor(b"a")], "outputs": [{"name": "mask"}]}, 422),
        ({"inputs": [tensor(b"a")], "outputs": [{"name": "box", "parameters": {"binary_data": True}}]}, 422),
        ({"inputs": [tensor(b"a")], "parameters": {"binary_data_output": True}}, 422),
    ],
    ids=str,
)
def test_bad_request_is_refused_in_the_protocols_shape(body, status):
    service = ModelService()
    assert refused(infer(service, DETECTOR, body=body)) == status
    assert service.asked == []


def test_request_has_bounds():
    assert refused(infer(ModelService(), EMBEDDER, *[b"a"] * 11)) == 422
    assert refused(infer(ModelService(), EMBEDDER, body={"inputs": [tensor(bytes(20_000))]})) == 413
    binary = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": "20"}
    assert refused(request(ModelService(), "POST", f"{DETECTOR}/infer", content=b"x" * 40, headers=binary)) == 415


def test_models_need_the_role_search_and_each_photo_counts():
    service = ModelService(auth=AuthConfig(keys=SEARCHER.line))
    anonymous = infer(service, DETECTOR, b"a photo")
    assert refused(anonymous) == 401
    assert anonymous.headers["www-authenticate"] == "Bearer"
    assert request(service, "GET", DETECTOR).is_success
    with_key = {"Authorization": f"Bearer {SEARCHING}"}
    answer = infer(service, EMBEDDER, b"one", b"two", **with_key)
    assert answer.headers["ratelimit"].startswith('"key";r=1')


def test_page_without_a_key_may_not_ask_models():
    service = ModelService(auth=AuthConfig(public=True))
    assert refused(infer(service, DETECTOR, b"a photo", Origin="http://127.0.0.1:8000")) == 403


def test_overload_says_when_to_come_back():
    response = infer(ModelService(Overloaded("full").after(2.5)), DETECTOR, b"a photo")
    assert refused(response) == 429
    assert response.headers["retry-after"] == "3"


def test_log_of_an_inference_holds_no_photo(caplog):
    caplog.set_level("INFO")
    infer(ModelService(), DETECTOR, b"a secret place")
    (record,) = [record for record in caplog.records if record.message == "inference"]
    said = json.dumps(record.__dict__, default=str)
    assert (record.photos, record.photo_bytes) == (1, 14)
    assert "secret" not in said
    assert base64.b64encode(b"a secret place").decode() not in said


def test_models_are_described():
    document = request(ModelService(), "GET", "/openapi.json").json()
    body = document["paths"]["/v2/models/{name}/infer"]["post"]["requestBody"]["content"]["application/json"]
    assert set(body["schema"]["required"]) == {"inputs"}
    assert "InputTensor" in document["components"]["schemas"]


async def test_inference_looks_for_all_and_embeds_wholes():
    inference = Inference(FakeDetector(CHAIR), FakeEmbedder())
    assert (await inference.see(b"a photo")).detections == (CHAIR,)
    assert (await inference.embed([b"one", b"two"])).embeddings.shape == (2, 256)
