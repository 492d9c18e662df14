"""The stages as searches meet them: what stands in where one is away, and the pipeline over them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from serve_app.calibration import Curve
from serve_app.config import Config
from serve_app.coverage import PARTIAL_INDEX
from serve_app.degradation import DetectorOrWhole, EmbedderOrNone
from serve_app.domain import PATIENT, Hit, Terms
from serve_app.paging import RefreshingStage
from serve_app.pipeline import DetectorStage, EmbedderStage, Pipeline, SearcherStage
from serve_app.rules import Rules
from serve_app.shadow import Counts, Mirror, ShadowEmbedder
from serve_app.side_by_side import AnyEmbedder
from serve_app.similar import ProductStage
from serve_app.stages import WholePhoto


class Stages(
    DetectorStage, EmbedderStage, AnyEmbedder, ShadowEmbedder, SearcherStage, RefreshingStage, ProductStage, Protocol
):
    """All that the ingress asks of the stages."""

    from_zero: Collection[str]
    """Stages that may have no replica while nothing is to do."""

    async def image(self, model: str, image_id: str, terms: Terms = PATIENT) -> Hit | None:
        """Return a row of an image of the index; None where it has none."""
        ...

    def is_waking(self) -> bool:
        """Tell whether a stage may be starting from zero."""
        ...


@dataclass(frozen=True, slots=True)
class QueryFlow:
    """Hold the pipeline, the stages it asks, and what looks on."""

    seeing: DetectorStage
    embedding: EmbedderStage
    stages: Stages
    pipeline: Pipeline
    mirror: Mirror


def make_flow(
    config: Config, stages: Stages, rules: Callable[[], Rules], curve: Curve | None, model: str, counts: Counts
) -> QueryFlow:
    """Return the flow as the settings say; `rules` returns those that are in force now.

    `model` answers, and `curve` makes chances of its scores; `counts` is told of the one that is tried beside it.
    """
    seeing = DetectorOrWhole(stages, WholePhoto(config.limits.max_pixels)) if config.degradation.no_detector else stages
    embedding = EmbedderOrNone(stages)
    made = partial(
        Pipeline,
        seeing,
        embedding,
        stages,
        rows_per_product=config.searcher.candidates_per_product,
        price_band=config.ranking.price_band,
        refused=() if config.degradation.partial_index else (PARTIAL_INDEX,),
        rules=rules,
    )
    mirror = Mirror(model, stages, lambda tried: made(curve=tried), counts, deadline_s=config.limits.deadline_s)
    return QueryFlow(seeing, embedding, stages, made(curve=curve, onlooker=mirror), mirror)
