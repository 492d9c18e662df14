"""One line in the log for every write."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from fastapi import Depends, Request

from serve_app.api.keys import Guard
from serve_app.api.problems import request_id_of
from serve_app.callers import Caller
from serve_app.errors import ShoplensError
from serve_app.keys import Role

log = logging.getLogger(__name__)

MOST_NAMED = 100
"""Products that a line names; it counts them all."""


@dataclass(slots=True)
class Write:
    """Say what a write did, filled in by its route."""

    caller: Caller
    action: str
    products: list[dict[str, str]] = field(default_factory=list)
    failed: int = 0

    def note(self, product_id: str, outcome: str, *, failed: bool = False) -> None:
        """Add a product that was to be written, and what became of it: a result, or a problem's code."""
        self.products.append({"product_id": product_id, "outcome": outcome})
        self.failed += failed


def audited(guard: Guard, action: str, role: Role = Role.WRITE) -> Any:
    """Return the default of a route's parameter `write: Write`, which guards the route and logs it when it ends."""
    return Depends(_line(guard.needs(role), action))


def _line(guarded: Any, action: str) -> Callable[..., AsyncIterator[Write]]:
    async def write(request: Request, caller: Caller = guarded) -> AsyncIterator[Write]:
        made, code = Write(caller, action), "ok"
        try:
            yield made
        except ShoplensError as error:
            code = error.code
            raise
        except BaseException:
            code = ShoplensError.code
            raise
        finally:
            log.info("write", extra=_fields(made, code, request))

    return write


def _fields(made: Write, code: str, request: Request) -> dict[str, Any]:
    return {
        "request_id": request_id_of(request),
        "caller": made.caller.name,
        "role": str(made.caller.role),
        "action": made.action,
        "products": made.products[:MOST_NAMED],
        "count": len(made.products),
        "failed": made.failed,
        "code": code,
    }
