# Copyright 2026 The Shoplens authors
# SPDX-License-Identifier: Apache-2.0
#
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0, or in
# LICENSES/Apache-2.0.txt of this project.
#
# Unless required by applicable law or agreed to in writing, software distributed under the License is distributed on
# an "AS IS" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the
# specific language governing permissions and limitations under the License.
"""The client that waits."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, Unpack

import httpx

from serve_app.client import calls
from serve_app.client.attempts import Attempts, Outcome, Retries, read
from serve_app.client.calls import Call, Narrowed, Searched, Shown
from serve_app.client.shapes import (
    Answer,
    BatchAnswer,
    Change,
    Feedback,
    FeedbackTaken,
    Found,
    Product,
    ProductAnswer,
    ProductToDelete,
    ProductToStore,
    Similar,
)

TIMEOUT_S = 40.0
"""Longer than a service takes whose models start from nothing."""
CONNECT_TIMEOUT_S = 5.0


def options(url: str, key: str | None, timeout_s: float) -> dict[str, Any]:
    return {
        "base_url": url,
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
        "timeout": httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
    }


class Client:
    """Ask a Shoplens service. Calls raise Problem and NoAnswer; one client may be used by several threads."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        retries: Retries | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._retries = retries or Retries()
        self._http = httpx.Client(**options(url, key, timeout_s), transport=transport)

    def search(self, photo: bytes | Sequence[bytes] | None = None, **given: Unpack[Searched]) -> Answer:
        """Search with a photo, or 2 to 5 of one thing; with the `token` of one that was sent before; with a `url`."""
        return read(Answer, self._send(calls.search(photo, given)))

    def page(self, cursor: str, **shown: Unpack[Shown]) -> Answer:
        """Return the page that a list's `next` names: an answer with one list."""
        return read(Answer, self._send(calls.page(cursor, shown)))

    def further(self, found: Found, **shown: Unpack[Shown]) -> Iterator[Product]:
        """Yield the products of a list that come after those it holds, page by page."""
        cursor = found.next
        while cursor is not None:
            (listed,) = self.page(cursor, **shown).objects
            yield from listed.products or ()
            cursor = listed.next

    def similar(self, product_id: str, **given: Unpack[Narrowed]) -> Similar:
        """Return the products that are most like one of the catalogue."""
        return read(Similar, self._send(calls.similar(product_id, given)))

    def similar_page(self, product_id: str, cursor: str, **shown: Unpack[Shown]) -> Similar:
        """Return the page that `next` of similar products names."""
        return read(Similar, self._send(calls.similar(product_id, {"cursor": cursor, **shown})))

    def product(self, product_id: str) -> ProductAnswer:
        """Return what the index has of a product."""
        return read(ProductAnswer, self._send(calls.product(product_id)))

    def put(self, product: ProductToStore, *, idempotency_key: str | None = None) -> Change:
        """Store a product, all of it; returns once that is done."""
        return read(Change, self._send(calls.put(product, idempotency_key)))

    def delete(self, product_id: str, *, at: datetime | None = None, idempotency_key: str | None = None) -> Change:
        """Remove a product; returns once that is done."""
        return read(Change, self._send(calls.delete(product_id, at, idempotency_key)))

    def batch(
        self, changes: Sequence[ProductToStore | ProductToDelete], *, idempotency_key: str | None = None
    ) -> BatchAnswer:
        """Store and remove products, and return what became of each, in their order."""
        return read(BatchAnswer, self._send(calls.batch(changes, idempotency_key)))

    def feedback(self, feedback: Feedback) -> FeedbackTaken:
        """Say what a shopper did with an answer."""
        return read(FeedbackTaken, self._send(calls.feedback(feedback)))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, call: Call) -> httpx.Response:
        attempts = Attempts(self._retries)
        while True:
            outcome = self._once(call)
            if isinstance(outcome, httpx.Response) and outcome.is_success:
                return outcome
            time.sleep(attempts.wait_s(outcome))

    def _once(self, call: Call) -> Outcome:
        try:
            return self._http.request(
                call.method, call.path, params=call.params, content=call.content, headers=call.headers
            )
        except httpx.TransportError as error:
            return error
