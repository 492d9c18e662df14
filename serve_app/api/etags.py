"""What a browser has already."""

from __future__ import annotations

from fastapi import Request


def known_tags(request: Request) -> list[str]:
    """Return the ETags that a request names, weak ones as strong ones: If-None-Match compares them so (RFC 9110)."""
    named = request.headers.get("If-None-Match", "").split(",")
    return [each.strip().removeprefix("W/") for each in named if each.strip()]
