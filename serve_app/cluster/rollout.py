"""Waiting until a release runs as it was installed, or until it is sure that it won't."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from serve_app.cluster.facts import DEPLOY_FAILED, RUNNING, RayService, Snapshot
from serve_app.cluster.status import (
    CONFIG_TROUBLES,
    IMAGE_TROUBLES,
    INVALID,
    READY,
    TIMED_OUT,
    findings,
    is_failing,
    reason_of,
    short,
)
from serve_app.errors import DeadlineExceeded, KubernetesUnavailable, RolloutFailed

PAUSE_S = 2.0
SURE_S = 20.0
"""How long it has to look hopeless: a registry's hiccup or a Secret that comes later heals before."""


@dataclass(frozen=True, slots=True)
class Verdict:
    state: Literal["done", "waiting", "hopeless"]
    reason: str
    at_once: bool = False
    """Nothing can make it better but a change of the release."""


def judge(seen: Snapshot) -> Verdict:
    """Tell how far a rollout is."""
    service = seen.service
    if service.observed_generation < service.generation:
        return Verdict("waiting", f"KubeRay has not looked at generation {service.generation} yet")
    ready = service.condition(READY)
    if ready is not None and not ready.holds and ready.reason in (INVALID, TIMED_OUT):
        return Verdict("hopeless", f"{ready.reason}: {ready.message}", at_once=True)
    return _failure(seen) or _progress(service) or Verdict("done", f"{service.name} runs in {_name(service)}")


def _failure(seen: Snapshot) -> Verdict | None:
    coming = seen.service.coming
    if coming is None:
        return None
    for application in coming.applications:
        dead = [each for each in application.stages if is_failing(each.status, each.message) and not each.ready]
        if application.status == DEPLOY_FAILED or dead:
            return Verdict("hopeless", f"{application.name} does not start in {coming.name}: {reason_of(application)}")
    for pod in seen.pods:
        for trouble in pod.troubles:
            if pod.cluster == coming.name and trouble.reason in (*IMAGE_TROUBLES, *CONFIG_TROUBLES):
                return Verdict(
                    "hopeless", f"pod {pod.name}: {trouble.reason}: {short(trouble.message)} ({trouble.image})"
                )
    return None


def _progress(service: RayService) -> Verdict | None:
    """Return what is still to come; None when nothing is."""
    ready = service.condition(READY)
    if service.pending is not None:
        return Verdict("waiting", f"the cluster {service.pending.name} is starting")
    if service.active is None:
        return Verdict("waiting", "no cluster has been made yet")
    if ready is None or not ready.holds:
        return Verdict("waiting", "no proxy serves yet" if ready is None else f"{ready.message} ({ready.reason})")
    wanted = {each.get("name", "default") for each in service.wanted.get("applications") or []}
    if missing := wanted - {each.name for each in service.active.applications}:
        return Verdict("waiting", f"{', '.join(sorted(missing))} is not there yet")
    for application in service.active.applications:
        if application.status != RUNNING:
            return Verdict("waiting", f"{application.name} is {application.status}: {reason_of(application)}")
        if not application.settled:
            return Verdict("waiting", f"{application.name} runs with the settings from before")
    return None


def _name(service: RayService) -> str:
    return service.active.name if service.active else ""


def wait(
    look: Callable[[], Snapshot],
    timeout_s: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    tell: Callable[[str], None],
) -> str:
    """Look again and again until it runs, and return the last word.

    Raises RolloutFailed with the reason where waiting longer is of no use, DeadlineExceeded after `timeout_s`, and what
    `look` raises unless it may pass.
    """
    started_s = clock()
    hopeless_since_s: float | None = None
    while True:
        seen, verdict = _look(look)
        if verdict.state == "done":
            return verdict.reason
        now_s = clock()
        if verdict.state == "waiting":
            hopeless_since_s = None
        else:
            hopeless_since_s = now_s if hopeless_since_s is None else hopeless_since_s
            if verdict.at_once or now_s - hopeless_since_s >= SURE_S:
                raise RolloutFailed(f"this will not heal by itself: {verdict.reason}; `helm rollback`, or correct it")
        if now_s - started_s >= timeout_s:
            raise DeadlineExceeded(f"not there after {now_s - started_s:.0f} s: {_why(seen, verdict)}")
        tell(verdict.reason)
        sleep(PAUSE_S)


def _look(look: Callable[[], Snapshot]) -> tuple[Snapshot | None, Verdict]:
    try:
        seen = look()
    except KubernetesUnavailable as error:
        return None, Verdict("waiting", error.message)
    return seen, judge(seen)


def _why(seen: Snapshot | None, verdict: Verdict) -> str:
    """Return the verdict with what is wrong, as `status` tells it."""
    wrong = [each.what for each in findings(seen) if each.wrong] if seen is not None else []
    return "; ".join(dict.fromkeys([verdict.reason, *wrong]))
