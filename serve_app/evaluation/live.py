"""Answers by a live endpoint, end to end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from serve_app.domain import Box, Source
from serve_app.errors import BadInput, ShoplensError, Unavailable
from serve_app.evaluation.answers import Answered, Listed, Product, Question, Run
from serve_app.evaluation.offline import TOP_K, Told, Unusable
from serve_app.evaluation.photos import Photos

AT_ONCE = 2
"""Photos under way: an evaluation is to leave a live service room for its shoppers."""
TIMEOUT_S = 60.0
TRIES = 5
LONGEST_WAIT_S = 10.0


def run(
    questions: Sequence[Question],
    url: str,
    photos: Photos,
    told: Told,
    *,
    key: str | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> tuple[Run, list[Unusable]]:
    """Ask the service at `url`; raises Unavailable where it does not answer, or changes its model on the way.

    A photo that the service refuses is told, not judged. `transport` replaces the network.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    client = httpx.AsyncClient(base_url=url, headers=headers, timeout=TIMEOUT_S, transport=transport)
    return asyncio.run(_run(questions, client, photos, told))


async def _run(
    questions: Sequence[Question], client: httpx.AsyncClient, photos: Photos, told: Told
) -> tuple[Run, list[Unusable]]:
    turns = asyncio.Semaphore(AT_ONCE)
    models: set[str] = set()

    async def one(question: Question) -> Answered | Unusable:
        async with turns:
            try:
                answer = await _ask(client, await asyncio.to_thread(photos.photo, question))
                models.add(str(answer["model"]))
                return to_answered(question, answer)
            except BadInput as error:
                return Unusable(question.image, error.message)
            finally:
                told(1)

    async with client:
        found = await asyncio.gather(*(one(question) for question in questions))
    if len(models) > 1:
        raise Unavailable(f"the service answered with several models ({', '.join(sorted(models))}); try again")
    answered = tuple(each for each in found if isinstance(each, Answered))
    run_of = Run(str(client.base_url).rstrip("/"), next(iter(models), ""), answered)
    return run_of, [each for each in found if isinstance(each, Unusable)]


async def _ask(client: httpx.AsyncClient, photo: bytes) -> Mapping[str, Any]:
    """Return the answer to one photo; raises BadInput where it is refused, and Unavailable."""
    reason = ""
    for attempt in range(TRIES):
        try:
            response = await client.post("/v1/search", files={"photo": photo}, params={"top_k": TOP_K})
        except httpx.HTTPError as error:
            reason = f"{type(error).__name__}: {error}"
            await asyncio.sleep(_back_off_s(attempt))
            continue
        if response.is_success:
            answer: Mapping[str, Any] = response.json()
            return answer
        reason = _problem(response)
        if response.status_code in (400, 413, 415, 422):
            raise BadInput(reason)
        if response.status_code not in (429, 502, 503, 504):
            raise ShoplensError(f"{client.base_url} answers {response.status_code}: {reason}")
        await asyncio.sleep(_wait_s(response, attempt))
    raise Unavailable(f"{client.base_url} did not answer in {TRIES} tries: {reason}")


def _back_off_s(attempt: int) -> float:
    return min(LONGEST_WAIT_S, 0.5 * 2.0**attempt)


def _wait_s(response: httpx.Response, attempt: int) -> float:
    try:
        asked = float(response.headers["Retry-After"])
    except (KeyError, ValueError):
        asked = _back_off_s(attempt)
    return min(LONGEST_WAIT_S, asked)


def _problem(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200]


def to_answered(question: Question, answer: Mapping[str, Any]) -> Answered:
    """Keep what is judged of an answer of version 1."""
    lists = tuple(
        Listed(
            Box(*each["box"]),
            each["main"],
            each["source"] == Source.WHOLE,
            tuple(Product(found["product_id"], found["image_id"], found["score"]) for found in each["products"]),
        )
        for each in answer["objects"]
        if each["products"] is not None
    )
    return Answered(question, lists, tuple(answer["degraded"]))
