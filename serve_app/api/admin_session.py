"""Who may use /admin: an admin's key, which the browser holds where no script can read it.

The cookie is sent to /admin alone, so that it opens nothing else. What changes something or sends a photo has to carry
a header that no page of another site can send, with a token that only a page of this one can read.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from fastapi import Depends, Request, Response

from serve_app.api.keys import Guard, asking_of
from serve_app.callers import Access, Asking, Caller
from serve_app.errors import Forbidden
from serve_app.keys import LONGEST_KEY, Role

COOKIE = "shoplens_admin"
PATH = "/admin"
HOURS_S = 8 * 3600
TOKEN = "X-CSRF-Token"  # noqa: S105 - the name of a header
SAFE = ("GET", "HEAD")
_LABEL = b"shoplens /admin"


class Session:
    """Let admins into /admin."""

    def __init__(self, access: Access, guard: Guard) -> None:
        self._access = access
        self._guard = guard
        self._entry = Depends(self._enter)

    @property
    def admin(self) -> Any:
        """Return the default of a route's parameter `caller: Caller`: only admins get in, and are counted."""
        return self._entry

    def begin(self, request: Request, response: Response, key: str) -> Caller:
        """Give the browser the cookie; raises KeyUnknown, and Forbidden for a key of another role or page."""
        _need_own_page(request)
        text = key.strip()[:LONGEST_KEY]
        caller = self._access.caller(Asking(authorization=f"Bearer {text}"))
        self._access.allow(caller, Role.ADMIN)
        # A service that is reached without TLS, as through `kubectl port-forward`, could not set a Secure one.
        secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, text, max_age=HOURS_S, path=PATH, secure=secure, httponly=True, samesite="strict")
        return caller

    def end(self, response: Response) -> None:
        """Take the cookie back."""
        response.delete_cookie(COOKIE, path=PATH, httponly=True, samesite="strict")

    async def _enter(self, request: Request) -> Caller:
        caller = self._access.caller(self._asking(request))
        self._access.allow(caller, Role.ADMIN)
        if request.method not in SAFE:
            _need_own_page(request)
            if not hmac.compare_digest(request.headers.get(TOKEN, "").encode(), token_of(request).encode()):
                raise Forbidden(f"this needs the header {TOKEN} as GET /admin/session tells it; load the page anew")
        await self._guard.charge(request, caller, 1)
        return caller

    def _asking(self, request: Request) -> Asking:
        asking, key = asking_of(request), request.cookies.get(COOKIE)
        return replace(asking, authorization=f"Bearer {key}") if key and not asking.authorization else asking


def token_of(request: Request) -> str:
    """Return what a page of this service has to send back; it tells nothing of the key."""
    key = request.cookies.get(COOKIE, "")
    return hmac.new(key.encode(errors="surrogateescape"), _LABEL, hashlib.sha256).hexdigest()


def _need_own_page(request: Request) -> None:
    """Raise Forbidden where a browser says that another page sends this."""
    headers = request.headers
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "same-origin")
    if site != "same-origin" or (origin and urlsplit(origin).netloc != headers.get("host")):
        raise Forbidden("a page of another site can't use /admin")
