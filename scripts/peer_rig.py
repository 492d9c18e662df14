"""Whatever stands during a comparison: the index, the bare pipeline, Shoplens and its peers."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from scripts import peer_environments
from scripts.bare_side import bare_process
from scripts.demo_shop import serving
from scripts.import_side import write_catalogue
from scripts.measuring import cores, free_port
from scripts.peer_list import BARE, SAME, SHOPLENS, Peer, Setting, Work, divided, titled
from scripts.peer_outcome import agreement
from scripts.peer_rounds import BareSide, HttpSide, Photos, Side, fastest
from scripts.peer_services import Service, running
from scripts.peer_settings import common, for_shoplens, resnet
from scripts.processes import CantStart

WORKS: tuple[Work, ...] = ("objects", "whole")
TRIED_SEARCHES, TRIED_CONNECTIONS = 96, 16
"""With which settings are tried."""


class Rig:
    """Start sides in one data directory, with the same photos."""

    def __init__(self, photos: Photos, weights: Path, data_dir: Path, environments: Path, scratch: Path) -> None:
        """Keep logs in `scratch`."""
        self.versions: dict[str, list[str]] = {}
        """What the index has given each peer."""
        self.chosen: dict[str, str] = {}
        """The setting of each peer that had several."""
        self._photos, self._data_dir, self._environments, self._scratch = photos, data_dir, environments, scratch
        self._environ = common(weights, data_dir, scratch)

    def index(self, catalogue: Sequence[Path], stack: ExitStack) -> None:
        """Import these photos as Shoplens does, and as the tutorials do; Milvus stays until `stack` ends.

        Raises CalledProcessError and MilvusUnavailable.
        """
        from serve_app.milvus.local import LocalMilvus

        manifest = self._scratch / "catalogue.csv"
        write_catalogue(manifest, catalogue)
        command = [sys.executable, "-m", "serve_app.cli", "import", str(manifest), "--data-dir", str(self._data_dir)]
        subprocess.run(command, env={**os.environ, **self._environ}, check=True, stdout=subprocess.DEVNULL)
        uri = stack.enter_context(LocalMilvus(self._data_dir))
        self._environ |= {"SHOPLENS_MILVUS__URI": uri, "PEER_MILVUS": uri, "PEER_RESNET": str(resnet())}
        fill = [sys.executable, "-m", "scripts.peers.fill_tutorial", *map(str, catalogue)]
        subprocess.run(fill, env={**os.environ, **self._environ}, check=True)

    def bare(self, searches: int, in_flight: int, stack: ExitStack) -> tuple[dict[str, Side], int]:
        """Return the bare pipeline, by work, and its threads: all cores for each model or half of them, as is faster.

        It is tried with so many searches in flight.
        """
        seconds = {}
        for threads in dict.fromkeys((cores(), max(1, cores() // 2))):
            with bare_process(self._data_dir, self._photos.paths, threads, self._environ) as tried:
                tried.round(searches, in_flight)
                seconds[threads] = min(tried.round(searches, in_flight)["seconds"] for _ in range(2))
        best = min(seconds, key=lambda threads: seconds[threads])
        bare = stack.enter_context(bare_process(self._data_dir, self._photos.paths, best, self._environ))
        service = Service(BARE, bare.pid)
        return {titled(BARE, work): BareSide(bare, service, work) for work in WORKS}, best

    def shoplens(self, stack: ExitStack) -> dict[str, Side]:
        """Return Shoplens, by work."""
        environ = {**self._environ, **for_shoplens(*divided(cores()))}
        process, url = stack.enter_context(serving(self._data_dir, environ))
        service = Service(SHOPLENS, process.pid, url)
        whole = dataclasses.replace(service, path=f"{service.path}?objects=whole")
        return {
            titled(SHOPLENS, work): HttpSide(own, self._photos)
            for work, own in zip(WORKS, (service, whole), strict=True)
        }

    def peer(self, table: str, peer: Peer, stack: ExitStack, *, try_settings: bool) -> Side:
        """Start a peer with the fastest of its settings, or the first; raises CantInstall, CantStart."""
        python = Path(sys.executable)
        if peer.environment is not None:
            python, self.versions[peer.name] = peer_environments.find(peer.environment, self._environments)
        setting = peer.settings[0]
        if try_settings and len(peer.settings) > 1:
            seconds = {each: self._seconds(table, peer, python, each) for each in peer.settings}
            setting = min(seconds, key=lambda each: seconds[each])
        if len(peer.settings) > 1:
            self.chosen[peer.name] = str(setting)
        side = self._start(table, peer, python, setting, stack)
        side.service.pause()
        return side

    def _seconds(self, table: str, peer: Peer, python: Path, setting: Setting) -> float:
        with ExitStack() as stack:
            side = self._start(table, peer, python, setting, stack)
            return fastest(side, TRIED_SEARCHES, TRIED_CONNECTIONS)

    def _start(self, table: str, peer: Peer, python: Path, setting: Setting, stack: ExitStack) -> HttpSide:
        port = free_port()
        own = setting.environ() if table == SAME else {}
        environ = {**self._environ, **own, "PEER_PORT": str(port)}
        command = [str(python), *(word.format(port=port) for word in peer.command)]
        log = self._scratch / f"{peer.name} {table}.log".replace(" ", "-")
        url, photo = f"http://127.0.0.1:{port}", self._photos.paths[0]
        service = stack.enter_context(running(peer.name, command, environ, url, photo, log, peer.pausable))
        return HttpSide(service, self._photos)


def agreements(ours: Side, others: Mapping[str, Side], photos: Sequence[bytes]) -> dict[str, float]:
    """Return for each other side the part of its lists that begin with the same product as those of Shoplens.

    Raises CantStart where one answers something else than lists of products.
    """
    own = _answers(ours, photos)
    try:
        return {name: agreement(own, _answers(side, photos)) for name, side in others.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise CantStart(f"a peer's answer has no lists of products: {error!r}") from error


def _answers(side: Side, photos: Sequence[bytes]) -> list[Any]:
    service = side.service
    service.resume()
    with httpx.Client(base_url=service.url, timeout=60) as client:
        found = [client.post(service.path, files={"photo": ("photo.jpg", data)}) for data in photos]
    service.pause()
    return [answer.raise_for_status().json() for answer in found]
