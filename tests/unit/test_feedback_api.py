"""Feedback over HTTP, to a service that remembers it."""

import pytest

from serve_app.api.feedback import EXAMPLES
from serve_app.config import AuthConfig
from serve_app.errors import Forbidden
from serve_app.feedback.records import Act, Feedback
from serve_app.keys import Role, new_key
from tests.unit.test_api import FakeService, code, request, search

CLICK = {"request_id": "r-1", "object_id": "o0", "product_id": "p1", "position": 1, "event": "click"}


class ListeningService(FakeService):
    def __init__(self, auth=None, error=None):
        super().__init__(auth=auth)
        self.taken = []
        self.error = error

    async def feedback(self, caller, feedback):
        if self.error:
            raise self.error
        self.taken.append((caller.role, feedback))
        return feedback.consent


def send(service, body, **options):
    return request(service, "POST", "/v1/feedback", json=body, **options)


def test_feedback_is_taken_with_who_gave_it():
    service = ListeningService()
    response = send(service, CLICK | {"consent": True})
    assert response.status_code == 202
    assert response.json() == {"request_id": response.headers["x-request-id"], "crop": True}
    assert service.taken == [(Role.ADMIN, Feedback("r-1", "o0", Act.CLICK, "p1", 1, consent=True))]


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_taken(name):
    assert send(ListeningService(), EXAMPLES[name]["value"]).status_code == 202


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"event": "like"}, "event"),
        ({"position": 0}, "position"),
        ({"product_id": None}, "click needs the product_id"),
        ({"event": "none_fits"}, "none_fits"),
        ({"request_id": "a b"}, "request_id"),
        ({"email": "a@b"}, "there is no parameter 'email'"),
    ],
)
def test_what_is_no_feedback_is_refused(change, said):
    response = send(ListeningService(), CLICK | change)
    assert code(response) == (422, "bad_parameter")
    assert said in response.json()["detail"]


def test_large_bodies_are_refused():
    assert code(send(ListeningService(), CLICK | {"product_id": "x" * 30_000})) == (413, "photo_too_large")


def test_who_may_search_may_give_feedback_and_is_counted():
    text, key = new_key("app", Role.SEARCH, per_minute=1)
    service = ListeningService(AuthConfig(keys=key.line))
    assert code(send(service, CLICK)) == (401, "key_required")
    headers = {"Authorization": f"Bearer {text}"}
    assert send(service, CLICK, headers=headers).status_code == 202
    assert code(send(service, CLICK, headers=headers)) == (429, "quota_exceeded")


def test_service_that_keeps_none_says_so():
    assert code(send(ListeningService(error=Forbidden("off")), CLICK)) == (403, "forbidden")


def test_answers_are_shown_to_the_log():
    service = FakeService()
    request_id = search(service).json()["request_id"]
    request(service, "POST", "/v1/search?cursor=abc")
    assert service.shown[0] == ("", request_id, False, "")
    assert service.shown[1][2]
