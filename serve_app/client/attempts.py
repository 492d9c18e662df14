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
"""Whether a call is worth another attempt, and what its outcome says."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

import httpx
from pydantic import ValidationError

from serve_app.client.shapes import Model, Told

FIRST_BACK_OFF_S = 0.5

Outcome = httpx.Response | httpx.TransportError
T = TypeVar("T", bound=Model)


class Problem(Exception):
    """The service answered that it can't do this; `told.code` says why."""

    def __init__(self, told: Told) -> None:
        super().__init__(f"{told.status} {told.code}: {told.detail}")
        self.told = told


class NoAnswer(Exception):
    """The service can't be reached, broke off or took too long."""


@dataclass(frozen=True, slots=True)
class Retries:
    """Say how often, and for how long, a call is tried that the service is too busy for or that breaks off.

    429 and 503 are tried again when the service says (`Retry-After`), unless that is later than `longest_wait_s`; a
    broken connection is tried again at once, one time. All calls may be made twice: none does anything twice.
    """

    attempts: int = 4
    longest_wait_s: float = 10.0


class Attempts:
    """Judge one outcome after the other. Nothing here waits or calls."""

    def __init__(self, retries: Retries) -> None:
        self._retries = retries
        self._made = 0
        self._broken = 0

    def wait_s(self, outcome: Outcome) -> float:
        """Return the seconds to wait before the next attempt; raises Problem or NoAnswer where there is to be none."""
        self._made += 1
        if isinstance(outcome, httpx.TransportError):
            self._broken += 1
            if self._broken > 1 or self._made >= self._retries.attempts or isinstance(outcome, httpx.TimeoutException):
                raise NoAnswer(f"no answer: {type(outcome).__name__}: {outcome}") from outcome
            return 0.0
        wait_s = self._asked_s(outcome)
        if outcome.status_code not in (429, 503) or self._made >= self._retries.attempts:
            raise Problem(_told(outcome))
        if wait_s > self._retries.longest_wait_s:
            raise Problem(_told(outcome))
        return wait_s

    def _asked_s(self, response: httpx.Response) -> float:
        text = response.headers.get("Retry-After", "")
        if text.isdecimal():
            return float(text)
        try:
            return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
        except (ValueError, TypeError):
            back_off_s = FIRST_BACK_OFF_S * 2.0 ** (self._made - 1)
            # Callers that were refused together do not come back together.
            return min(self._retries.longest_wait_s, back_off_s * random.uniform(0.5, 1.0))  # noqa: S311


def _told(response: httpx.Response) -> Told:
    try:
        return Told.model_validate_json(response.content)
    except ValidationError:
        # A proxy's own words.
        return Told(status=response.status_code, code="not_ours", detail=response.text[:500])


def read(kind: type[T], response: httpx.Response) -> T:
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as error:
        raise NoAnswer(f"this is no answer of Shoplens: {response.text[:200]!r}") from error
