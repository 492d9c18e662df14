"""What an ingress replica knows of the index and of the stages without asking them for each search."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass

from serve_app.api.service import IndexView
from serve_app.collection import IndexState
from serve_app.errors import IndexMissing, ShoplensError


@dataclass(frozen=True, slots=True)
class Replicas:
    """Count the replicas of one stage."""

    running: int = 0
    starting: int = 0


class IndexWatch:
    """Know which collection the running model's alias stands for, and which stages have replicas."""

    def __init__(
        self,
        alias: str,
        index: Callable[[], Awaitable[IndexState]],
        replicas: Callable[[], Mapping[str, Replicas]],
        *,
        ingress: str,
    ) -> None:
        """Ask `index` for the alias, and `replicas`, in a thread, for those of each deployment by its name.

        The `ingress` is there where this runs, however its replicas are counted.
        """
        self.most_replicas: Mapping[str, int] = {}
        self.view = IndexView(None, "the index has not been looked at yet")
        self.was_ready = False
        self.can_grow = False
        self.running: Collection[str] = ()
        self._alias = alias
        self._index = index
        self._replicas = replicas
        self._ingress = ingress
        self._missing = False

    def check(self) -> None:
        """Raise IndexMissing where the alias was seen to stand for nothing."""
        if self._missing:
            raise IndexMissing(self.view.reason)

    async def look(self) -> None:
        """Look once; what can't be seen now is noted, not raised."""
        try:
            replicas = await asyncio.to_thread(self._replicas)
            self.running = {name for name, each in replicas.items() if each.running}
            self.can_grow = any(each.running < self.most_replicas.get(name, 0) for name, each in replicas.items())
            self._saw(await self._index(), None if self.was_ready else self._starting_stage(replicas))
        except ShoplensError as error:
            # Once seen, an index stays the last known one: searches say by themselves that Milvus is away.
            if not self.was_ready:
                self.view = IndexView(None, str(error))

    def _saw(self, state: IndexState, starting: str | None) -> None:
        if state.collection is None:
            self.view = IndexView(None, f"there is no index {self._alias}; `shoplens import MANIFEST` makes it")
        elif not state.loaded:
            self.view = IndexView(state.collection, f"the index {state.collection} is not loaded yet")
        elif starting is not None:
            self.view = IndexView(state.collection, f"the stage {starting} is starting")
        else:
            self.view = IndexView(state.collection)
            self.was_ready = True
        self._missing = state.collection is None

    def _starting_stage(self, replicas: Mapping[str, Replicas]) -> str | None:
        """Return a stage whose first replica is still starting; one that is at zero is none."""
        for name, each in replicas.items():
            if each.starting and not each.running and name != self._ingress:
                return name
        return None
