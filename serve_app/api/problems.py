"""Errors as RFC 9457 problems: https://www.rfc-editor.org/rfc/rfc9457."""

from __future__ import annotations

import http
import logging
import math
from collections.abc import Callable

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from serve_app.changes import Refusal
from serve_app.errors import BadParameter, ShoplensError

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """What went wrong; programs go by `code`, people by `detail`."""

    model_config = ConfigDict(extra="forbid")

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    retry_after_ms: int | None = None


def problem_response(error: ShoplensError, request_id: str) -> JSONResponse:
    """Answer one of our errors, with `Retry-After` in whole seconds, rounded up."""
    response = refusal_response(Refusal.of(error), request_id)
    if error.status == http.HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def problem_of(refusal: Refusal, request_id: str) -> Problem:
    """Return the problem of one change among several."""
    return _problem(refusal.status, refusal.code, refusal.reason, request_id, _milliseconds(refusal.retry_after_s))


def refusal_response(refusal: Refusal, request_id: str) -> JSONResponse:
    """Answer the one change of a request that was refused."""
    retry_ms = _milliseconds(refusal.retry_after_s)
    return _response(refusal.status, refusal.code, refusal.reason, request_id, retry_ms, _retry_after(retry_ms))


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else math.ceil(seconds * 1000)


def _retry_after(milliseconds: int | None) -> dict[str, str]:
    return {} if milliseconds is None else {"Retry-After": str(math.ceil(milliseconds / 1000))}


def _response(
    status: int, code: str, detail: str, request_id: str, retry_ms: int | None, headers: dict[str, str]
) -> JSONResponse:
    body = _problem(status, code, detail, request_id, retry_ms)
    return JSONResponse(body.model_dump(exclude_none=True), status, headers=headers, media_type=MEDIA_TYPE)


def _problem(status: int, code: str, detail: str, request_id: str, retry_ms: int | None) -> Problem:
    return Problem(
        type=f"urn:shoplens:problem:{code}",
        title=http.HTTPStatus(status).phrase,
        status=status,
        detail=writable(detail),
        code=code,
        request_id=request_id,
        retry_after_ms=retry_ms,
    )


def writable(text: str) -> str:
    """Return a text that UTF-8 can hold: JSON lets callers send halves of characters."""
    return text.encode(errors="backslashreplace").decode()


def install(app: FastAPI, count: Callable[[str], None]) -> None:
    """Answer every error of the app as a problem, unknown ones without their traceback, and count it."""

    async def ours(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ShoplensError)
        request_id = request_id_of(request)
        count(error.code)
        log.info("problem", extra={"request_id": request_id, "code": error.code, "detail": error.message})
        return problem_response(error, request_id)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"] if part not in ("query", "body"))
        return await ours(request, BadParameter(f"{name}: {first['msg']}"))

    async def unknown(request: Request, error: Exception) -> JSONResponse:
        request_id = request_id_of(request)
        count(ShoplensError.code)
        log.error("unexpected error", exc_info=error, extra={"request_id": request_id})
        detail = "something went wrong on our side; the log holds the cause under this request_id"
        return _response(500, ShoplensError.code, detail, request_id, None, {})

    app.add_exception_handler(ShoplensError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, unknown)


def request_id_of(request: Request) -> str:
    """Return the id that the app's middleware gave the request."""
    return str(getattr(request.state, "request_id", ""))


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = http.HTTPStatus(error.status_code).name.lower()
    detail = f"there is no {request.url.path} here; the API is described at /docs"
    if error.status_code == http.HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"{request.method} is not for {request.url.path}; the API is described at /docs"
    return _response(error.status_code, code, detail, request_id_of(request), None, dict(error.headers or {}))
