"""Who is compared with Shoplens, and how each is started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Literal

Work = Literal["objects", "whole"]
"""What a search is of: the three best objects and the whole photo, or the whole photo alone."""

SHOPLENS, BARE = "Shoplens", "bare pipeline"
WHOLE = ", whole photo"
"""What follows those names where the work is that."""
SAME, TUTORIAL = "same models", "as in the tutorials"
AIMS = {SAME: 1.0, TUTORIAL: 1.5}
"""Throughput of Shoplens as a multiple of each other's, by table."""
BATCH = 8
"""Photos in a batch, where there are any: the most in one of Shoplens' detector."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Name what a peer needs from the package index beside what Shoplens has."""

    name: str
    requirements: tuple[str, ...]


LITSERVE = Environment("litserve", ("litserve==0.2.19",))
BENTOML = Environment("bentoml", ("bentoml==1.4.40",))
ENVIRONMENTS = (LITSERVE, BENTOML)


@dataclass(frozen=True, slots=True)
class Setting:
    """Hold what can be chosen of a peer that runs the models of Shoplens; where it is nothing to a peer, it is 1."""

    batch: int = 1
    wait_ms: float = 0.0
    workers: int = 1
    ongoing: int = 1
    """Requests that a replica of Ray Serve works on at once."""
    detector_threads: int = 1
    embedder_threads: int = 1

    def environ(self) -> dict[str, str]:
        """Return it as the variables that `scripts.peers` and Shoplens read."""
        return {
            "PEER_BATCH": str(self.batch),
            "PEER_WAIT_MS": str(self.wait_ms),
            "PEER_WORKERS": str(self.workers),
            "PEER_ONGOING": str(self.ongoing),
            "SHOPLENS_DETECTOR__THREADS": str(self.detector_threads),
            "SHOPLENS_EMBEDDER__THREADS": str(self.embedder_threads),
        }


@dataclass(frozen=True, slots=True)
class Peer:
    """Say how one of the others is started; `{port}` in the command is the port it has to listen on."""

    name: str
    command: tuple[str, ...]
    environment: Environment | None = None
    """None where it needs nothing but what Shoplens has."""
    settings: tuple[Setting, ...] = (Setting(),)
    """Of which the fastest is compared."""
    work: Work = "objects"
    pausable: bool = True
    """Ray's processes watch each other: none may be stopped while another is measured."""


def divided(cores: int) -> tuple[int, int]:
    """Return the threads of detector and embedder where each is a process of its own, as their work is divided."""
    return max(1, cores // 3), ceil(cores * 2 / 3)


def peers(cores: int) -> Mapping[str, tuple[Peer, ...]]:
    """Return the others by table.

    In the first, models that share a process run one after the other, with all cores, or with half of them in each of
    two workers; torch has one number of threads for a process.
    """
    detector, embedder = divided(cores)
    own = {"detector_threads": detector, "embedder_threads": embedder}
    all_cores = {"detector_threads": cores, "embedder_threads": cores}
    half = {"detector_threads": max(1, cores // 2), "embedder_threads": max(1, cores // 2)}
    bento = ("-m", "bentoml", "serve", "--host", "127.0.0.1", "--port", "{port}")
    return {
        SAME: (
            Peer(
                "LitServe",
                ("-m", "scripts.peers.lit_same"),
                LITSERVE,
                (
                    Setting(BATCH, 5, **all_cores),
                    Setting(**all_cores),
                    Setting(BATCH, 5, workers=2, **half),
                ),
            ),
            Peer(
                "BentoML",
                (*bento, "scripts.peers.bento_same:Search"),
                BENTOML,
                (Setting(BATCH, **own), Setting(**own)),
            ),
            Peer(
                "Ray Serve",
                ("-m", "scripts.peers.ray_same"),
                None,
                # The second has the defaults of Ray Serve.
                (Setting(BATCH, 5, ongoing=64, **own), Setting(10, 10, ongoing=5, **own)),
                pausable=False,
            ),
            Peer("Milvus bootcamp", ("-m", "scripts.peers.bootcamp_same"), None, (Setting(**all_cores),)),
        ),
        TUTORIAL: (
            Peer("LitServe", ("-m", "scripts.peers.lit_tutorial"), LITSERVE),
            Peer("BentoML", (*bento, "scripts.peers.bento_tutorial:ImageSearch"), BENTOML),
            Peer("Ray Serve", ("-m", "scripts.peers.ray_tutorial"), None, pausable=False),
            Peer("Milvus bootcamp", ("-m", "scripts.peers.bootcamp_tutorial"), None, work="whole"),
        ),
    }


def titled(name: str, work: Work) -> str:
    """Return the name of Shoplens or of the bare pipeline, with the work where it is not the usual."""
    return name if work == "objects" else name + WHOLE
