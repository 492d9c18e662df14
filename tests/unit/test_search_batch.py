"""Several searches in one request, to a service of canned answers."""

import asyncio

import pytest

from serve_app.api.examples import SEARCHED, SEARCHES
from serve_app.api.search_batch import AT_ONCE, MOST_SEARCHES, SearchesAnswer
from serve_app.errors import Overloaded
from serve_app.pipeline import Query
from tests.unit.test_api import FakeService, code, request

PHOTO = {"image": "cGhvdG8="}


def searched(service, *searches, query=""):
    return request(service, "POST", f"/v1/search:batch{query}", json={"searches": list(searches)})


def test_each_search_is_answered_in_its_place():
    service = FakeService()
    response = searched(service, PHOTO, {"token": "t-1", "top_k": 3}, {"cursor": "c-1"}, {"top_k": 3}, {"colour": 1}, 5)
    found = response.json()["searches"]
    assert [each["problem"] and each["problem"]["code"] for each in found] == [
        None, None, None, "empty_body", "bad_parameter", "bad_parameter",
    ]  # fmt: skip
    assert [each["answer"] is None for each in found] == [False, False, False, True, True, True]
    assert found[0]["answer"]["objects"][0]["label"] == "chair"
    assert {found[0]["answer"]["request_id"], found[3]["problem"]["request_id"]} == {response.json()["request_id"]}
    assert sorted(map(str, service.searches)) == sorted(map(str, [(b"photo", Query()), ("t-1", Query(top_k=3))]))
    assert sorted(service.counted) == ["bad_parameter", "bad_parameter", "empty_body", "ok", "ok", "ok"]


def test_one_of_them_may_have_several_photos():
    service = FakeService()
    (found,) = searched(service, {"images": ["cGhvdG8=", "YW5vdGhlcg=="]}).json()["searches"]
    assert found["problem"] is None
    assert service.searches == [((b"photo", b"another"), Query())]


def test_searches_are_bulk_and_a_shoppers_is_not():
    service = FakeService()
    searched(service, PHOTO, {"token": "t-1"})
    request(service, "POST", "/v1/search", json=PHOTO)
    assert service.bulk == [True, True, False]


def test_parameters_of_the_query_string_hold_for_all():
    service = FakeService()
    found = searched(service, PHOTO, {"token": "t-1", "top_k": 3}, query="?top_k=2&language=de").json()["searches"]
    assert service.searches == [(b"photo", Query(top_k=2))]
    assert found[1]["problem"]["code"] == "bad_parameter"


def test_photo_may_be_named_by_its_url():
    service = FakeService()
    assert searched(service, {"url": "https://a/b.jpg"}).json()["searches"][0]["problem"] is None
    assert service.searches == [("https://a/b.jpg", Query())]


def test_search_that_is_refused_says_when_to_come_back():
    (found,) = searched(FakeService(Overloaded("full")), PHOTO).json()["searches"]
    assert (found["problem"]["status"], found["problem"]["retry_after_ms"]) == (429, 1000)


def test_few_searches_of_one_request_are_in_work_at_a_time():
    class Busy(FakeService):
        in_work = most = 0

        async def search(self, owner, photo, query, *, bulk=False):
            self.in_work += 1
            self.most = max(self.most, self.in_work)
            await asyncio.sleep(0.001)
            self.in_work -= 1
            return await super().search(owner, photo, query, bulk=bulk)

    service = Busy()
    assert searched(service, *[PHOTO] * MOST_SEARCHES).is_success
    assert (service.most, len(service.searches)) == (AT_ONCE, MOST_SEARCHES)


@pytest.mark.parametrize(
    "body",
    [[], {}, {"searches": []}, {"searches": {}}, {"searches": [PHOTO] * (MOST_SEARCHES + 1)}, {"searches": [], "a": 1}],
    ids=lambda body: str(body)[:40],
)
def test_body_that_is_none_is_refused(body):
    assert code(request(FakeService(), "POST", "/v1/search:batch", json=body)) == (422, "bad_parameter")


@pytest.mark.parametrize("query", ["token=t-1", "url=http://a/b.jpg", "cursor=c-1", "top_k=0", "colour=red"])
def test_parameter_that_can_not_hold_for_all_is_refused(query):
    assert code(searched(FakeService(), PHOTO, query=f"?{query}")) == (422, "bad_parameter")


def test_photos_are_together_as_large_as_one_may_be():
    response = searched(FakeService(), *[{"image": "cGhvdG8=" * 500}] * 10)
    assert code(response) == (413, "photo_too_large")


@pytest.mark.parametrize("name", list(SEARCHES))
def test_example_of_a_request_is_taken(name):
    found = request(FakeService(), "POST", "/v1/search:batch", json=SEARCHES[name]["value"]).json()["searches"]
    assert [each["problem"] for each in found] == [None, None]


def test_example_of_an_answer_is_one():
    assert SearchesAnswer.model_validate(SEARCHED).model_dump(mode="json") == SEARCHED
    described = request(FakeService(), "GET", "/openapi.json").json()["paths"]["/v1/search:batch"]["post"]
    assert described["responses"]["200"]["content"]["application/json"]["example"] == SEARCHED
    assert described["requestBody"]["content"]["application/json"]["examples"] == SEARCHES


def test_lowest_chance_of_a_model_without_a_curve_is_refused_in_its_place():
    service = FakeService()
    service.tells_matches = False
    found = searched(service, PHOTO, PHOTO | {"min_match": 0.5}).json()["searches"]
    assert [each["problem"] and each["problem"]["code"] for each in found] == [None, "bad_parameter"]
    assert code(searched(service, PHOTO, query="?min_match=0.5")) == (422, "bad_parameter")
