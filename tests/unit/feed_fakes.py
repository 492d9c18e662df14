"""A feed's collaborators, in memory."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace

import numpy as np

from serve_app.catalogue.events import Message
from serve_app.catalogue.feed_index import FeedIndex
from serve_app.catalogue.manifest import Problem
from serve_app.catalogue.plan import EmbeddedView, Planned
from serve_app.catalogue.report import Outcome, Status
from serve_app.catalogue.stored_image import StoredImage
from serve_app.collection import check
from serve_app.domain import WHOLE_BOX, Detection, View

START_MS = 1_795_514_400_000
BROKEN = "broken.jpg"


class FakeSource:
    """Give messages in portions; what was not acknowledged comes again after `restart`."""

    def __init__(self, portions):
        self.portions = [list(portion) for portion in portions]
        self.taken = self.acknowledged = 0
        self.closed = False

    @property
    def is_over(self):
        return self.taken == len(self.portions)

    def take(self, most, within_s):
        if self.is_over:
            return []
        self.taken += 1
        assert len(self.portions[self.taken - 1]) <= most
        return self.portions[self.taken - 1]

    def acknowledge(self):
        self.acknowledged = self.taken

    def restart(self):
        self.taken = self.acknowledged

    def close(self):
        self.closed = True


class FakeIndex:
    """Hold rows by image and view, and leave newer ones alone, as the writer does."""

    def __init__(self):
        self.images = {}
        self.writes = 0

    def rows(self, image_ids):
        return {image_id: dict(self.images[image_id]) for image_id in image_ids if image_id in self.images}

    def images_of(self, product_ids):
        wanted, found = set(product_ids), defaultdict(set)
        for image_id, rows in self.images.items():
            for row in rows.values():
                if row.product_id in wanted:
                    found[row.product_id].add(image_id)
        return found

    def write(self, rows):
        self.writes += 1
        fresh = defaultdict(dict)
        for row in rows:
            check(row)
            fresh[row.image_id][row.view] = row
        for image_id, views in fresh.items():
            newest = max((row.updated_at for row in self.images.get(image_id, {}).values()), default=0)
            if newest <= views[View.WHOLE].updated_at:
                self.images[image_id] = views

    def delete(self, image_ids):
        for image_id in image_ids:
            self.images.pop(image_id, None)

    def image(self, image_id):
        return StoredImage(self.images[image_id]) if image_id in self.images else None


class FakeTombstones:
    def __init__(self):
        self.times = {}

    def add(self, times):
        for key, at in times.items():
            self.times[key] = max(at, self.times.get(key, at))

    def noted(self, keys):
        return {key: self.times[key] for key in keys if key in self.times}


class FakeImporter:
    """Decide as the importer does, without looking at images: BROKEN can't be read."""

    def __init__(self, index):
        self.index = index
        self.embedded = []

    def __call__(self, entries):
        assert len({entry.image_id for entry in entries}) == len(entries)
        return [self._outcome(entry) for entry in entries]

    def _outcome(self, entry):
        if entry.image == BROKEN:
            problem = Problem(
                entry.row, entry.image, entry.product_id, "truncated", "the image is cut", entry.columns()
            )
            return Outcome.of_problem(problem)
        planned = Planned(entry, entry.image[-64:], "recipe", entry.at_ms)
        known = self.index.image(entry.image_id)
        outcome = Outcome(entry.row, entry.image, entry.product_id, Status.EMBEDDED, 1)
        if known and known.row_sha256s == {planned.row_sha256}:
            return replace(outcome, status=Status.UNCHANGED, written_rows=0)
        if known and known.updated_at > entry.at_ms:
            return replace(outcome, status=Status.STALE, written_rows=0)
        vector = np.zeros(256, np.float32)
        vector[0] = 1
        self.embedded.append(entry)
        self.index.write(planned.rows({View.WHOLE: EmbeddedView(Detection(WHOLE_BOX), vector)}))
        return outcome


class Shop:
    """An index with all that a feed needs."""

    def __init__(self):
        self.index = FakeIndex()
        self.tombstones = FakeTombstones()
        self.importer = FakeImporter(self.index)
        self.sink = FeedIndex(self.index, self.tombstones, self.importer)

    def entry(self, image_id):
        image = self.index.image(image_id)
        return image and image.entry


def message(row, event="upsert", at=0, **values):
    """Return an event `at` so many milliseconds after START_MS."""
    return Message(row, json.dumps({"event": event, "at": START_MS + at} | values).encode())
