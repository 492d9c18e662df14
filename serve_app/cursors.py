"""Cursors: where the next page begins, signed, so that nobody can make one up."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from itsdangerous import BadData, BadSignature, URLSafeSerializer

from serve_app.errors import BadParameter, PhotoExpired

SALT = "shoplens.cursor"
MADE_ELSEWHERE = "this cursor is not known here any more; search again"


@dataclass(frozen=True, slots=True)
class Cursor:
    """Name the photo, the ranking beside it, what that was asked with, and how many of its products were shown."""

    token: str
    ranking: str
    query: str
    offset: int


class Cursors:
    """Sign cursors with a key, and read them."""

    def __init__(self, key: bytes) -> None:
        self._serializer = URLSafeSerializer(
            key, salt=SALT, signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256}
        )

    def write(self, cursor: Cursor) -> str:
        return str(self._serializer.dumps([cursor.token, cursor.ranking, cursor.query, cursor.offset]))

    def read(self, text: str) -> Cursor:
        """Return what a cursor says.

        Raises BadParameter for what is no cursor, PhotoExpired for one that was signed with another key, as a store
        has that was lost.
        """
        try:
            token, ranking, query, offset = self._serializer.loads(text)
        except BadSignature as error:
            if text.count(".") == 0:
                raise BadParameter("this is no cursor; give an object's `next` as it came") from error
            raise PhotoExpired(MADE_ELSEWHERE) from error
        except (BadData, ValueError, TypeError) as error:
            raise BadParameter("this is no cursor; give an object's `next` as it came") from error
        return Cursor(token, ranking, query, offset)
