"""The index of a model that is to be promoted: found where it was begun, made where it was not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from serve_app import collection as naming
from serve_app.config import MilvusConfig
from serve_app.milvus import indexing, lifecycle, targets
from serve_app.milvus.client import Client
from serve_app.milvus.targets import Marks, State
from serve_app.milvus.verify import missing_images


@dataclass(frozen=True, slots=True)
class Filling:
    """Name a model's collection.

    `stands` where its alias stands for it, `filled` where nothing is to be embedded, `amiss` says what it lacks though
    it stands.
    """

    collection: str
    stands: bool
    filled: bool
    amiss: str = ""


def collection_for(
    client: Client,
    config: MilvusConfig,
    catalogue: str,
    model: str,
    now: datetime,
    properties: Mapping[str, str],
) -> Filling:
    """Return the collection that a model is to be searched in, made where there is none.

    What was begun earlier and not switched to is gone on with.
    """
    marks = Marks(client, catalogue)
    standing = indexing.resolve(client, naming.alias(catalogue, model))
    if standing is not None:
        amiss = missing_images(client, catalogue, standing)
        if marked := marks.count(standing):
            amiss.append(f"{marked:,} images were changed by writers of another model")
        return Filling(standing, stands=True, filled=not amiss, amiss="; ".join(amiss))
    begun = [target for target in targets.read_all(client, catalogue) if target.fingerprint == model]
    if not begun:
        made = lifecycle.create(client, config, catalogue, model, now, properties)
        return Filling(made, stands=False, filled=False)
    newest = begun[0]
    filled = newest.state is State.MIRRORED and not marks.count(newest.collection)
    return Filling(newest.collection, stands=False, filled=filled)
