"""Who may use a route, and how often."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.api.problems import Problem
from serve_app.callers import Access, Asking, Caller
from serve_app.keys import Role
from serve_app.limiting import Quotas, exceeded
from serve_app.quotas import WINDOW_S, Standing

POLICY, LIMIT = "RateLimit-Policy", "RateLimit"
"""https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/10/"""
PROBLEMS: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "Problem with code key_required, key_unknown"},
    403: {"model": Problem, "description": "Problem with code forbidden, origin_refused"},
    429: {"model": Problem, "description": "Problem with code quota_exceeded, overloaded"},
}
"""What a guarded route may answer beside its own problems."""

_KEY = HTTPBearer(auto_error=False, scheme_name="key", description="an API key; what needs one depends on the settings")


class Guard:
    """Let those callers use a route who may."""

    def __init__(self, access: Access, quotas: Quotas) -> None:
        self._access = access
        self._quotas = quotas
        # One for each role, so that a request is counted once however often its route names the role.
        self._entries = {role: self._entry(role) for role in Role}
        self._uncounted = {role: self._entry(role, counted=False) for role in Role}

    def needs(self, role: Role) -> Any:
        """Return the default of a route's parameter `caller: Caller`, so that only who has this role gets in.

        Where that is not so the route is not entered, nor the request's body read.
        """
        return Depends(self._entries[role])

    def knows(self, role: Role) -> Any:
        """Return the same as `needs` does, for a route whose requests are not counted."""
        return Depends(self._uncounted[role])

    async def charge(self, request: Request, caller: Caller, cost: int) -> None:
        """Count what a request costs beyond the one that it was counted as; raises QuotaExceeded."""
        standing = await self._quotas.charge(caller, cost)
        if standing is not None:
            request.state.standing = standing
            if not standing.taken:
                raise exceeded(standing, cost)

    def _entry(self, role: Role, *, counted: bool = True) -> Callable[..., Awaitable[Caller]]:
        async def enter(request: Request, _described: Any = Depends(_KEY)) -> Caller:  # noqa: B008 - how FastAPI has it
            caller = self._access.caller(asking_of(request))
            self._access.allow(caller, role)
            if counted:
                await self.charge(request, caller, 1)
            return caller

        return enter


class TellLimits:
    """Tell callers whose requests are counted how they stand."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_limits(message: Message) -> None:
            standing: Standing | None = scope.get("state", {}).get("standing")
            if message["type"] == "http.response.start" and standing is not None:
                headers, quota = MutableHeaders(scope=message), standing.quota
                headers[POLICY] = f'"{quota.policy}";q={quota.requests};w={WINDOW_S}'
                headers[LIMIT] = f'"{quota.policy}";r={max(0, int(standing.left))};t={standing.full_s}'
            await send(message)

        await self._app(scope, receive, send_with_limits)


def asking_of(request: Request) -> Asking:
    """Return what of a request tells who makes it."""
    headers = request.headers
    return Asking(
        authorization=headers.get("authorization", ""),
        host=headers.get("host", ""),
        from_own_page=headers.get("sec-fetch-site") == "same-origin",
        origin=headers.get("origin", ""),
        peer=request.client.host if request.client else "",
        forwarded_for=",".join(headers.getlist("x-forwarded-for")),
    )
