"""All bad requests: photos that make a body of their own, and what else can be wrong with a request."""

from __future__ import annotations

from scripts import bad_bodies, bad_parameters, bad_paths, bad_urls
from scripts.bad_photos import bad_photos
from scripts.bad_requests import RAW, BadRequest

STATUSES = {
    "ok": 200,
    "empty_body": 400,
    "too_many_pixels": 413,
    "photo_too_large": 413,
    "unsupported_type": 415,
    "truncated": 422,
    "not_an_image": 422,
}
MAKERS = (*bad_parameters.MAKERS, *bad_bodies.MAKERS, *bad_paths.MAKERS, *bad_urls.MAKERS)


def bad_requests(seed: int = 0) -> list[BadRequest]:
    """Return the corpus: photos that make a body of their own, and what else can be wrong with a request."""
    photos = [
        BadRequest(
            f"photo: {each.kind}",
            each.name,
            tuple((STATUSES[code], code) for code in each.codes),
            body=each.data,
            headers=RAW,
        )
        for each in bad_photos(seed)
    ]
    return photos + [request for maker in MAKERS for request in maker()]
