"""The stages as their callers see them: handles of Ray Serve in the shape of the pipeline's protocols."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    ReplicaUnavailableError,
)
from ray.serve.handle import DeploymentHandle
from ray.util.metrics import Counter

from serve_app import telemetry
from serve_app.domain import PATIENT, Crops, Hit, Ranked, Terms
from serve_app.errors import Overloaded, ShoplensError, StageUnavailable
from serve_app.filters import NO_FILTER, Filter
from serve_app.objects import Focus
from serve_app.pipeline import Embedded, Found, ImageViews, Sighting, Stored
from serve_app.resilience import RetryBudget

log = logging.getLogger(__name__)

SHADOW = "Shadow"
"""The deployment that a model is tried in."""
QUIET_S = 10.0
"""A stage that has not answered for so long may have gone to zero."""


class StageCalls:
    """Call the stages' deployments.

    A call whose replica died under it is made once more: stage calls change nothing, and Serve itself never repeats
    one. One budget bounds that for all stages. A search wakes the stages that it will come to, so that their cold
    starts overlap.
    """

    def __init__(self, handles: Mapping[str, DeploymentHandle[Any]], budget: RetryBudget) -> None:
        self._handles = handles
        self.from_zero: Collection[str] = ()
        self._budget = budget
        self._answered_s = dict.fromkeys(handles, -math.inf)
        self._waking: dict[str, asyncio.Task[None]] = {}
        self._retries = Counter(telemetry.STAGE_RETRIES, tag_keys=("stage",))

    async def detect(self, photo: bytes, focus: Focus, terms: Terms = PATIENT) -> Sighting:
        for stage in self.from_zero:
            self._wake(stage, terms)
        sighting: Sighting = await self._call("Detector", "detect", photo, focus, terms)
        return sighting

    async def views(self, image: bytes, terms: Terms = PATIENT) -> ImageViews:
        for stage in set(self.from_zero) & {"Detector", "Embedder"}:
            self._wake(stage, terms)
        views: ImageViews = await self._call("Detector", "views", image, terms)
        return views

    async def embed(self, crops: Crops, terms: Terms = PATIENT) -> Embedded:
        embedded: Embedded = await self._call("Embedder", "embed", crops, terms)
        return embedded

    async def embed_as(self, model: str, crops: Crops, terms: Terms = PATIENT) -> Embedded:
        embedded: Embedded = await self._call("Embedder", "embed_as", model, crops, terms)
        return embedded

    async def embed_in_shadow(self, model: str, crops: Crops, terms: Terms = PATIENT) -> Embedded:
        embedded: Embedded = await self._call(SHADOW, "embed", model, crops, terms)
        return embedded

    async def search(
        self, embedded: Embedded, k: int, wanted: Filter = NO_FILTER, strong: bool = False, terms: Terms = PATIENT
    ) -> Found:
        found: Found = await self._call("Searcher", "search", embedded, k, wanted, strong, terms)
        return found

    async def refresh(self, model: str, ranked: Sequence[Ranked], terms: Terms = PATIENT) -> Found:
        found: Found = await self._call("Searcher", "refresh", model, ranked, terms)
        return found

    async def product(
        self, model: str, product_id: str, vectors: bool = False, strong: bool = False, terms: Terms = PATIENT
    ) -> Stored:
        stored: Stored = await self._call("Searcher", "product", model, product_id, vectors, strong, terms)
        return stored

    async def image(self, model: str, image_id: str, terms: Terms = PATIENT) -> Hit | None:
        hit: Hit | None = await self._call("Searcher", "image", model, image_id, terms)
        return hit

    def is_waking(self) -> bool:
        """Tell whether a stage that was quiet has not answered yet: it may be starting from zero."""
        return bool(self._waking)

    def _wake(self, stage: str, terms: Terms) -> None:
        if stage in self._waking or time.monotonic() - self._answered_s[stage] < QUIET_S:
            return

        async def warm() -> None:
            try:
                async with asyncio.timeout(terms.left_s()):
                    await self._handles[stage].warm.remote()
                self._answered_s[stage] = time.monotonic()
            except (TimeoutError, RayError, RayServeException):
                log.info("stage not woken", extra={"stage": stage})
            finally:
                del self._waking[stage]

        self._waking[stage] = asyncio.get_running_loop().create_task(warm())

    async def _call(self, stage: str, method: str, *arguments: Any) -> Any:
        if stage != SHADOW:
            self._budget.earn()
        for attempt in (1, 2):
            try:
                answer = await getattr(self._handles[stage], method).remote(*arguments)
                self._answered_s[stage] = time.monotonic()
                return answer
            except ShoplensError:
                raise
            except RayTaskError as error:
                cause = error.cause
                raise (
                    cause if isinstance(cause, ShoplensError) else StageUnavailable(f"a stage failed: {cause!r}")
                ) from error
            except BackPressureError as error:
                raise Overloaded("too many searches wait; try again shortly") from error
            except DeploymentUnavailableError as error:
                raise StageUnavailable(f"the stage {stage} failed to deploy") from error
            except (RayActorError, ReplicaUnavailableError) as error:
                # The budget is the shoppers': a tried model whose replica dies again and again may take none of it.
                if attempt == 2 or stage == SHADOW or not self._budget.spend():
                    raise StageUnavailable("a stage went away during this search; try again") from error
                self._retries.inc(1, tags={"stage": stage})
                log.warning("stage call repeated", extra={"stage": stage, "cause": str(error)[:200]})
        raise AssertionError
