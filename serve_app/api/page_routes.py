"""The page that shoppers search on, at /."""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse
from starlette.exceptions import HTTPException

from serve_app.api.etags import known_tags
from serve_app.api.service import Service
from serve_app.api.source import ARCHIVE, source_address, source_archive
from serve_app.browser_detector import MEDIA_TYPES as DETECTOR_TYPES
from serve_app.browser_detector import PACKED, BrowserDetector
from serve_app.config import PageConfig
from serve_app.languages import LANGUAGES, Reader
from serve_app.money import CURRENCIES
from serve_app.texts import LABELS, PAGE, texts

HTML = "index.html"
MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
SCRIPT_BYTES = 100_000
"""The most that all scripts together may have: the page is for phones."""
FOREVER = "public, max-age=31536000, immutable"
CHECK_EACH_TIME = "no-cache"
WORKER = ".worker.js"
"""Ends the names of scripts that run in a worker, with a policy of their own."""
WORKER_POLICY = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'"
_NAMED = re.compile(r"\{\{(@?[^{}]+)\}\}")


@dataclass(frozen=True, slots=True)
class Assets:
    """Hold the page's files; `version` changes with any of them, and is a part of their addresses."""

    files: Mapping[str, bytes]
    version: str

    @property
    def folder(self) -> str:
        return f"page/{self.version}"


def read_assets(name: str = "page") -> Assets:
    """Return a page's files as they are installed."""
    folder = files("serve_app.api").joinpath(name)
    found = {entry.name: entry.read_bytes() for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)}
    digest = hashlib.sha256(b"".join(name.encode() + data for name, data in found.items()))
    return Assets(found, digest.hexdigest()[:12])


def content_security_policy(settings: PageConfig) -> str:
    """Return what browsers may load for the page: its own files, and pictures from where the shop's are."""
    return (
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; "
        f"img-src {pictures_policy(settings)}; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'self'"
    )


def pictures_policy(settings: PageConfig) -> str:
    """Return where a page's pictures may come from."""
    return " ".join(("'self'", "blob:", "data:", *settings.picture_sources))


def router(service: Service) -> APIRouter:
    routes = APIRouter(include_in_schema=False)
    assets = read_assets()
    policy = content_security_policy(service.page_settings)

    # Functions that wait for files, not coroutines: the first reader of a language reads its catalogues.
    @routes.get("/")
    def page(request: Request, language: str | None = None) -> Response:
        known = language if language in LANGUAGES else None
        reader = service.markets.of(known, request.headers.get("Accept-Language")).reader
        text = written(assets, reader, {**said(reader), **settings_of(service)}, source_address(service.page_settings))
        headers = {
            "Content-Security-Policy": policy,
            "Content-Language": reader.tag,
            "Vary": "Accept-Language",
            "Referrer-Policy": "same-origin",
        }
        return answer(request, text.encode(), "text/html", CHECK_EACH_TIME, headers)

    @routes.get(f"/{ARCHIVE}")
    def source(request: Request) -> Response:
        """Hand out the source of the running version."""
        # Named, so that it is not compressed once more.
        return answer(request, source_archive(), "application/gzip", CHECK_EACH_TIME, {"Content-Encoding": "identity"})

    @routes.get("/page/texts/{language}")
    def page_texts(request: Request, language: str) -> Response:
        """Answer with what the page says in another language."""
        reader = service.markets.of(language).reader
        return answer(request, json.dumps(said(reader)).encode(), "application/json", CHECK_EACH_TIME)

    @routes.get("/page/{version}/{name}")
    async def page_file(request: Request, version: str, name: str) -> Response:
        data, media_type = assets.files.get(name), MEDIA_TYPES.get(f".{name.rpartition('.')[2]}")
        if data is None or media_type is None:
            raise HTTPException(404)
        headers = {"Content-Security-Policy": WORKER_POLICY} if name.endswith(WORKER) else {}
        # While replicas are replaced, a page of one version may ask a replica of another.
        return answer(request, data, media_type, FOREVER if version == assets.version else CHECK_EACH_TIME, headers)

    @routes.get("/page/detector/{version}/{name}")
    def detector_file(request: Request, version: str, name: str) -> Response:
        """Hand out a file of what browsers find objects with."""
        detector = service.browser_detector
        # Runtime and model of two versions are never mixed.
        if detector is None or version != detector.version or name not in DETECTOR_TYPES:
            raise HTTPException(404)
        return detector_answer(request, detector, name)

    return routes


def said(reader: Reader) -> dict[str, object]:
    """Return what the page says to a reader."""
    return {
        "language": reader.tag,
        "direction": reader.direction,
        "texts": texts(PAGE, reader.language),
        "labels": texts(LABELS, reader.language),
    }


def settings_of(service: Service) -> dict[str, object]:
    """Return what the page has to know of the shop."""
    rates = service.markets.rates().currencies
    return {
        "languages": dict(LANGUAGES),
        "currencies": [code for code in CURRENCIES if code in rates],
        "max_bytes": service.max_body_bytes,
        "product_url": service.page_settings.product_url,
        "facets": dict(service.page_settings.facets),
        "pictures": bool(service.page_settings.image_folders),
        "feedback": service.takes_feedback,
        "detector": detector_settings(service.browser_detector),
    }


def detector_settings(detector: BrowserDetector | None) -> dict[str, object] | None:
    """Return what the page has to know to find objects itself; None where it can't."""
    if detector is None:
        return None
    return {
        "folder": f"page/detector/{detector.version}",
        "min_confidence": detector.min_confidence,
        "most": detector.most,
    }


def detector_answer(request: Request, detector: BrowserDetector, name: str) -> Response:
    """Return a file of the detector, compressed where the browser takes that."""
    headers = {
        "Cache-Control": FOREVER,
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
        # Named in either case, so that it is not compressed once more.
        "Content-Encoding": "identity",
    }
    path, packed = detector.folder / name, detector.folder / f"{name}{PACKED}"
    if "gzip" in request.headers.get("Accept-Encoding", "") and packed.is_file():
        path, headers["Content-Encoding"] = packed, "gzip"
    return FileResponse(path, headers=headers, media_type=DETECTOR_TYPES[name])


def written(assets: Assets, reader: Reader, settings: Mapping[str, object], source: str) -> str:
    """Return the page as HTML in the reader's language, so that it can be read before any script runs."""
    found = texts(PAGE, reader.language)
    modules = [name for name in assets.files if name.endswith(".js") and not name.endswith(WORKER)]
    special = {
        "@language": reader.tag,
        "@direction": reader.direction,
        "@assets": assets.folder,
        "@source": html.escape(source),
        "@preloads": "\n".join(f'<link rel="modulepreload" href="{assets.folder}/{name}">' for name in modules),
        # Inside a script element nothing is unescaped, but </script> would end it.
        "@settings": json.dumps(settings, ensure_ascii=False).replace("<", "\\u003c"),
    }

    def value(match: re.Match[str]) -> str:
        return special[match[1]] if match[1] in special else html.escape(str(found[match[1]]))

    return _NAMED.sub(value, assets.files[HTML].decode())


def answer(
    request: Request, body: bytes, media_type: str, cache_control: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a body with its ETag, or 304 where the browser has it."""
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    all_headers = {
        "ETag": etag,
        "Cache-Control": cache_control,
        "X-Content-Type-Options": "nosniff",
        **(headers or {}),
    }
    if etag in known_tags(request):
        return Response(status_code=304, headers=all_headers)
    return Response(body, headers=all_headers, media_type=media_type)
