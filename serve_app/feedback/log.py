"""The feedback log of one replica: what waits in memory, and when it is written and swept."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import logging
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image

from serve_app.config import Config, FeedbackConfig
from serve_app.domain import Box
from serve_app.errors import Forbidden, PhotoExpired, ShoplensError, StageUnavailable
from serve_app.feedback.files import Bounds, crop_name, log_name, sweep, to_parquet
from serve_app.feedback.records import Done, Feedback, Shown, asked_of, shown_of
from serve_app.folders import Folder, is_remote, need_pyarrow
from serve_app.images import decode
from serve_app.keys import Role
from serve_app.photos import Photos
from serve_app.pipeline import Answer

log = logging.getLogger(__name__)

FOLDER = Path("feedback")
"""Where the log lies in the data directory."""
SWEEP_EVERY_S = 3600.0
TICK_S = 0.5
MOST_WAITING = 5
"""Of `rows_per_file`: what waits in memory while the folder is away; beyond, the oldest goes."""
CROP_SIDE_PX = 640
"""Long side of a kept crop: more than any embedder looks at."""
CROP_QUALITY = 90
CROPS_AT_ONCE = 2
LINK = "asked"
OFF = "this service keeps no feedback; its operator turns that on with feedback.enabled"


class FeedbackLog:
    """Take notes of answers and feedback without holding anybody up; `run` writes them."""

    def __init__(
        self,
        config: Config,
        photos: Photos,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raise BadConfig where the log is wanted and what writes it is not installed."""
        self._config: FeedbackConfig = config.feedback
        self._place = config.feedback.folder or str(config.data_dir / FOLDER)
        self._max_pixels = config.limits.max_pixels
        self._photos = photos
        self._now = now
        self._clock = clock
        if self._config.enabled:
            need_pyarrow(self._place)
        self._folder: Folder | None = None
        self._shown: list[Shown] = []
        self._done: list[Done] = []
        self._writer = secrets.token_hex(4)
        self._files = 0
        self._flushed_s = clock()
        self._swept_s: float | None = None
        self._crop_bytes = 0
        self._cutting = asyncio.Semaphore(CROPS_AT_ONCE)
        self._linking: set[asyncio.Task[bool]] = set()
        self._is_away = False
        self._lost = 0

    def show(self, owner: str, request_id: str, answer: Answer, *, further: bool = False, like: str = "") -> None:
        """Note what an answer shows, and, where crops may be kept, beside its photo where its objects are."""
        if not self._config.enabled:
            return
        lists = shown_of(answer, request_id, self._now_ms(), further=further, like=like)
        self._shown += lists
        self._bound()
        if self._config.keep_crops and answer.token is not None and lists and not like:
            self._link(owner, request_id, answer)

    async def take(self, owner: str, role: Role, feedback: Feedback) -> bool:
        """Note feedback; return whether the crop that the list was searched with is kept. Raises Forbidden when off."""
        if not self._config.enabled:
            raise Forbidden(OFF)
        crop = ""
        if feedback.consent and self._config.keep_crops:
            crop = await self._keep_crop(owner, feedback)
        self._done.append(
            Done(
                at_ms=self._now_ms(),
                asked=asked_of(feedback.request_id),
                object_id=feedback.object_id,
                act=feedback.act,
                product_id=feedback.product_id,
                position=feedback.position,
                role=role.value,
                crop=crop,
            )
        )
        self._bound()
        return bool(crop)

    async def run(self) -> None:
        """Write and sweep until cancelled.

        Where nothing is logged any more, what was logged before still goes when its time is over.
        """
        if not self._config.enabled and not self._was_enabled():
            return
        while True:
            if self._is_due():
                await self.flush()
            if self._has_to_sweep():
                await self._sweep()
            await asyncio.sleep(TICK_S)

    async def flush(self) -> None:
        """Write what waits; where that fails it goes on waiting, and the log of the service says so once."""
        shown, done = self._shown, self._done
        self._flushed_s = self._clock()
        if not shown and not done:
            return
        self._shown, self._done = [], []
        name = log_name(self._now(), self._writer, self._files)
        try:
            await asyncio.to_thread(lambda: self._opened().write(name, to_parquet(shown, done)))
        except ShoplensError as error:
            self._shown, self._done = shown + self._shown, done + self._done
            self._bound()
            self._say_away(error)
            return
        self._files += 1
        if self._is_away:
            log.info("feedback is written again", extra={"rows_lost": self._lost})
        self._is_away, self._lost = False, 0

    def _was_enabled(self) -> bool:
        return not is_remote(self._place) and Path(self._place).is_dir()

    def _is_due(self) -> bool:
        waiting = len(self._shown) + len(self._done)
        late = self._clock() - self._flushed_s >= self._config.flush_s
        return late or (waiting >= self._config.rows_per_file and not self._is_away)

    def _has_to_sweep(self) -> bool:
        if self._swept_s is None or self._clock() - self._swept_s >= SWEEP_EVERY_S:
            return True
        return self._crop_bytes > self._config.crops_max_bytes / 10

    async def _sweep(self) -> None:
        own = self._config
        rows = Bounds(own.kept_days, own.max_bytes, own.max_files)
        crops = Bounds(own.crops_kept_days, own.crops_max_bytes, own.max_files)
        self._swept_s, self._crop_bytes = self._clock(), 0
        try:
            gone = await asyncio.to_thread(lambda: sweep(self._opened(), self._now(), rows, crops))
        except ShoplensError as error:
            self._say_away(error)
            return
        if gone:
            log.info("feedback swept", extra={"files": gone})

    def _opened(self) -> Folder:
        self._folder = self._folder or Folder(self._place)
        return self._folder

    def _say_away(self, error: ShoplensError) -> None:
        if not self._is_away:
            log.error("feedback can't be written", extra={"cause": error.message})
        self._is_away = True

    def _bound(self) -> None:
        """Keep memory bounded: of what waits for a folder that is away, the oldest goes."""
        most = MOST_WAITING * self._config.rows_per_file
        for waiting in (self._shown, self._done):
            self._lost += max(0, len(waiting) - most)
            del waiting[: max(0, len(waiting) - most)]

    def _link(self, owner: str, request_id: str, answer: Answer) -> None:
        boxes = {
            entry.object_id or f"o{place}": entry.object.detection.box.as_tuple()
            for place, entry in enumerate(answer.lists)
            if entry.products
        }
        data = json.dumps({"token": answer.token, "boxes": boxes}).encode()
        task = asyncio.create_task(self._photos.note(owner, _link_name(owner, request_id), {LINK: data}))
        self._linking.add(task)
        task.add_done_callback(self._linking.discard)

    async def _keep_crop(self, owner: str, feedback: Feedback) -> str:
        """Return the name of the crop's file; '' where photo or list is gone, or the folder is away."""
        if self._linking:
            # Feedback may come as fast as its answer was read.
            await asyncio.wait(self._linking)
        try:
            link = await self._photos.read(owner, _link_name(owner, feedback.request_id), LINK)
            if link is None:
                return ""
            known = json.loads(link)
            edges = known["boxes"].get(feedback.object_id)
            if edges is None:
                return ""
            photo = await self._photos.photo(owner, known["token"])
            async with self._cutting:
                return await asyncio.to_thread(self._write_crop, photo, Box(*edges), feedback)
        except (PhotoExpired, StageUnavailable):
            return ""
        except ShoplensError as error:
            self._say_away(error)
            return ""

    def _write_crop(self, photo: bytes, box: Box, feedback: Feedback) -> str:
        data = crop_file(photo, box, self._max_pixels)
        name = crop_name(self._now(), asked_of(feedback.request_id), feedback.object_id)
        self._opened().write(name, data)
        self._crop_bytes += len(data)
        return name

    def _now_ms(self) -> int:
        return int(self._now().timestamp() * 1e3)


def crop_file(photo: bytes, box: Box, max_pixels: int) -> bytes:
    """Return what a box holds as a JPEG without metadata, its long side CROP_SIDE_PX at most; raises BadInput."""
    working = decode(photo, max_pixels=max_pixels)
    height, width = working.pixels.shape[:2]
    left, top = int(box.x0 * width), int(box.y0 * height)
    right, bottom = max(left + 1, round(box.x1 * width)), max(top + 1, round(box.y1 * height))
    image = Image.fromarray(working.pixels[top:bottom, left:right])
    image.thumbnail((CROP_SIDE_PX, CROP_SIDE_PX))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=CROP_QUALITY)
    return buffer.getvalue()


def _link_name(owner: str, request_id: str) -> str:
    """Name what leads from a request to its photo: of its owner's own, so that nobody can take another's name."""
    return "asked:" + hashlib.sha256(f"{owner}\0{request_id}".encode()).hexdigest()[:32]
