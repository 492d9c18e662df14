"""What the HTTP interface asks of the service behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from serve_app.browser_detector import BrowserDetector
from serve_app.callers import Access, Caller
from serve_app.catalogue.past import LeftOut, PastImport
from serve_app.changes import Change, Changed
from serve_app.collection import IndexInfo
from serve_app.config import PageConfig
from serve_app.feedback.records import Feedback
from serve_app.limiting import Quotas
from serve_app.market import Markets
from serve_app.pictures import Picture, Width
from serve_app.pipeline import Answer, Embedded, Query, Sighting, Stored
from serve_app.repeats import Begun
from serve_app.rules import Rules
from serve_app.shadow import Shadow
from serve_app.side_by_side import Candidate, Side
from serve_app.why import Why


@dataclass(frozen=True, slots=True)
class IndexView:
    """Say which collection the running model's alias stands for; None and a reason where there is none."""

    collection: str | None
    reason: str = ""


class Backstage(Protocol):
    """What /admin asks."""

    def searches(self) -> list[dict[str, Any]]:
        """Return the last searches, the newest first, without what could say whose they were."""
        ...

    async def imports(self) -> list[PastImport]:
        """Return the newest imports of this data directory."""
        ...

    async def left_out(self, name: str) -> list[LeftOut]:
        """Return the first rows that an import left out; raises UnknownImage where there is no such import."""
        ...

    async def picture(self, name: str, row: int, known: Sequence[str]) -> Picture:
        """Return the picture of such a row; raises UnknownImage."""
        ...

    async def indexes(self) -> list[IndexInfo]:
        """Return the collections of the catalogue, the newest first."""
        ...

    async def models(self) -> list[Candidate]:
        """Return the models that can be compared, the running one first."""
        ...

    def shadow(self) -> Shadow:
        """Return what this replica knows of the model that is tried."""
        ...

    async def compare(self, photo: bytes, model: str, query: Query) -> tuple[Side, ...]:
        """Return what the running model and another one find for a photo; raises UnknownModel."""
        ...

    async def why(self, photo: bytes, product_id: str, query: Query) -> Why:
        """Return where a product is for a photo; raises UnknownProduct."""
        ...


class Service(Protocol):
    fingerprint: str
    detector_sha256: str
    max_body_bytes: int
    markets: Markets
    access: Access
    quotas: Quotas
    page_settings: PageConfig
    takes_feedback: bool
    tells_matches: bool
    """The model has a curve that chances are made by."""
    browser_detector: BrowserDetector | None

    @property
    def backstage(self) -> Backstage:
        """What /admin asks."""
        ...

    def rules(self) -> Rules:
        """Return the rules of the shop that are in force now."""
        ...

    async def search(self, owner: str, photo: bytes, query: Query, *, bulk: bool = False) -> Answer:
        """Search with a compressed photo, within the deadline; its token is to be the owner's. `bulk` searches wait."""
        ...

    async def search_together(self, owner: str, photos: Sequence[bytes], query: Query, *, bulk: bool = False) -> Answer:
        """Search for one thing that several photos show, of which the first gets the token."""
        ...

    async def search_again(self, owner: str, token: str, query: Query, *, bulk: bool = False) -> Answer:
        """Search with a photo that its owner sent before."""
        ...

    async def search_url(self, owner: str, url: str, query: Query, *, bulk: bool = False) -> Answer:
        """Search with the photo at a URL, within the same deadline; raises what fetching raises."""
        ...

    async def page(self, owner: str, cursor: str, top_k: int, query: Query | None, *, bulk: bool = False) -> Answer:
        """Return the page that a cursor points to; `query` is what is asked for beside it, None for nothing."""
        ...

    async def write(self, changes: Sequence[Change], at_ms: int) -> list[Changed]:
        """Return what became of each change once it is stored; those without a time of their own are of `at_ms`."""
        ...

    async def begin(self, owner: str, key: str, request: bytes, now_ms: int) -> Begun:
        """Note a request by its Idempotency-Key, and return what is known of it."""
        ...

    async def end(self, owner: str, key: str, answer: bytes) -> None:
        """Keep what such a request was answered."""
        ...

    async def product(self, product_id: str, *, strong: bool) -> Stored:
        """Return what the index has of a product; raises UnknownProduct."""
        ...

    async def similar(self, owner: str, product_id: str, query: Query) -> Answer:
        """Return one list of the products that are most like this one; raises UnknownProduct."""
        ...

    async def similar_page(self, owner: str, product_id: str, cursor: str, top_k: int, query: Query | None) -> Answer:
        """Return a further page of such a list."""
        ...

    async def see(self, photo: bytes) -> Sighting:
        """Return what the detector finds in a photo, without an index; waits for shoppers."""
        ...

    async def embed(self, photos: Sequence[bytes]) -> Embedded:
        """Return the embedding of the whole of each photo, without an index; waits for shoppers."""
        ...

    def is_there(self, stage: str) -> bool:
        """Tell whether a stage has a replica, or may be at zero, as far as is known."""
        ...

    def show(self, owner: str, request_id: str, answer: Answer, *, further: bool = False, like: str = "") -> None:
        """Log what an answer shows: a page that is no first one, or products `like` this one."""
        ...

    async def feedback(self, caller: Caller, feedback: Feedback) -> bool:
        """Log what a shopper did with an answer; return whether the crop is kept. Raises Forbidden when off."""
        ...

    async def picture(self, image_id: str, width: Width, known: Sequence[str]) -> Picture:
        """Return a picture of an image, without data where its tag is a known one; raises UnknownImage."""
        ...

    def index(self) -> IndexView:
        """Return the last known state of the index, without asking for it."""
        ...

    def ready(self) -> IndexView | None:
        """Return None once the service has been ready, else what is missing."""
        ...

    def count(self, code: str, timings_ms: dict[str, float], degraded: Sequence[str] = ()) -> None:
        """Count one finished search in the metrics, and what its answer lacked."""
        ...

    async def metrics(self) -> str:
        """Return the node's metrics in Prometheus' text format."""
        ...
