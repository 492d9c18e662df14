"""What is wrong with a release, judged from what was seen of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from serve_app.cluster.facts import DEPLOY_FAILED, RUNNING, Application, Pod, RayCluster, RayService, Snapshot, Trouble

READY, UPGRADING, ROLLING_BACK = "Ready", "UpgradeInProgress", "RollbackInProgress"
INVALID, TIMED_OUT = "ValidationFailed", "InitializingTimeout"

IMAGE_TROUBLES = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError")
CONFIG_TROUBLES = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
FAILED_IMPORTS = ("FAILED", "Failed", "ValidationFailed", "STOPPED")


@dataclass(frozen=True, slots=True)
class Finding:
    what: str
    todo: str
    wrong: bool = True
    """Else it is only worth knowing: nothing has to be done about it."""


def findings(seen: Snapshot) -> tuple[Finding, ...]:
    """Return what is wrong, gravest first, each with what to do."""
    found = [
        *_service(seen.service),
        *_clusters(seen.service),
        *(finding for pod in seen.pods for finding in pod_findings(pod)),
        *_health(seen),
        *_milvus(seen.milvus),
        *_import(seen),
    ]
    return tuple(sorted(dict.fromkeys(found), key=lambda each: not each.wrong))


def _service(service: RayService) -> Iterator[Finding]:
    ready = service.condition(READY)
    if service.observed_generation < service.generation:
        yield Finding(
            f"KubeRay has not looked at generation {service.generation} yet (at {service.observed_generation})",
            "if it stays so, the operator is away or refuses it: `shoplens cluster doctor`, `kubectl describe "
            f"rayservice {service.name}`",
        )
    if ready is None or not ready.holds:
        reason = "nothing is known yet" if ready is None else f"{ready.message} ({ready.reason})"
        yield Finding(
            f"the service is not ready: {reason}", _ready_todo(service.name, "" if ready is None else ready.reason)
        )
    if service.holds(UPGRADING):
        yield Finding(
            "an upgrade is in progress: the new cluster takes over when its application runs",
            "nothing, or wait: `shoplens cluster wait`; back: `helm rollback`",
            wrong=False,
        )
    if service.holds(ROLLING_BACK):
        yield Finding("a rollback is in progress", "`shoplens cluster wait`", wrong=False)


def _ready_todo(name: str, reason: str) -> str:
    if reason == INVALID:
        return "correct the values and `helm upgrade`; KubeRay does nothing until then"
    if reason == TIMED_OUT:
        return f"KubeRay has given up for good: `kubectl delete rayservice {name}`, then `helm upgrade`"
    return "what follows says why, or `shoplens cluster wait`"


def _clusters(service: RayService) -> Iterator[Finding]:
    for cluster in (service.active, service.pending):
        if cluster is not None:
            coming = cluster is service.pending
            beside = coming and service.active is not None
            if cluster.refused:
                yield Finding(
                    f"Kubernetes makes no further pods for {cluster.name}: {short(cluster.refused)}",
                    "make room, such as by a larger quota, or `helm upgrade` to what needs less"
                    + ("; the active cluster serves on meanwhile" if beside else ""),
                )
            for application in cluster.applications:
                yield from _application(cluster, application, coming=coming, beside=beside)


def _application(cluster: RayCluster, application: Application, *, coming: bool, beside: bool) -> Iterator[Finding]:
    """Judge an application of the active cluster, or of the coming one, which may stand `beside` an active one."""
    role = "new" if coming else "active"
    failing = [each for each in application.stages if is_failing(each.status, each.message)]
    if application.status == DEPLOY_FAILED or (application.status != RUNNING and failing):
        yield Finding(
            f"the application does not start in the {role} cluster {cluster.name}: {reason_of(application)}",
            "correct image and values and `helm upgrade`"
            + (", or `helm rollback`; the active cluster serves on meanwhile" if beside else ""),
        )
    elif application.status != RUNNING:
        yield Finding(
            f"the application is {application.status or 'unknown'} in the {role} cluster {cluster.name}: "
            f"{reason_of(application) or 'stages are starting'}",
            "`shoplens cluster wait`",
            wrong=not coming,
        )
    for stage in application.stages:
        if stage.wanted is not None and stage.ready is not None and stage.ready < stage.wanted and stage not in failing:
            yield Finding(
                f"the stage {stage.name} has {stage.ready} of {stage.wanted} replicas in {cluster.name}"
                + (f": {short(stage.message)}" if stage.message else ""),
                "pods that are pending are named here; else they are starting",
                wrong=stage.ready == 0 and not coming,
            )
    if not application.settled:
        yield Finding(
            f"{cluster.name} does not run with the settings of the release yet",
            "`shoplens cluster wait`; KubeRay hands them over within seconds",
            wrong=False,
        )


def is_failing(status: str, message: str) -> bool:
    """Tell whether Ray Serve could not start a stage's replicas."""
    return status == DEPLOY_FAILED or "failed to start" in message


def reason_of(application: Application) -> str:
    """Return the message that says most: of a failing stage, else of the application."""
    for stage in application.stages:
        if is_failing(stage.status, stage.message):
            return f"{stage.name}: {short(stage.message)}"
    troubled = next((each for each in application.stages if each.message), None)
    if application.message:
        return short(application.message)
    return f"{troubled.name}: {short(troubled.message)}" if troubled else ""


def short(message: str, most: int = 400) -> str:
    """Return a message in one line: a traceback's first and last line say what and why."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if not lines:
        return ""
    text = lines[0] if len(lines) == 1 else f"{lines[0]} … {lines[-1]}"
    return text if len(text) <= most else text[: most - 2] + " …"


def pod_findings(pod: Pod) -> Iterator[Finding]:
    """Return what is wrong with one pod."""
    if pod.phase in ("Terminating", "Succeeded"):
        return
    if pod.unscheduled:
        yield Finding(f"pod {pod.name} has no node: {pod.unscheduled}", _placing_todo(pod.unscheduled))
    if pod.out_of_memory:
        yield Finding(
            f"pod {pod.name} was ended for its memory (OOMKilled)",
            f"raise the memory limit of {pod.group or 'its group'} in the values",
            wrong=not pod.ready,
        )
    # Containers share an image mostly: its trouble is told once.
    for trouble in {(each.reason, each.image): each for each in reversed(pod.troubles)}.values():
        if trouble.reason != "OOMKilled":
            yield _trouble(pod, trouble)
    if pod.restarts and not pod.out_of_memory:
        yield Finding(
            f"pod {pod.name} was restarted {pod.restarts} times",
            f"`kubectl logs {pod.name} --previous`",
            wrong=False,
        )


def _placing_todo(reason: str) -> str:
    if "nvidia.com/gpu" in reason:
        return "free GPUs, enlarge their pool, or lower maxReplicas; during an upgrade both clusters need theirs"
    if "Insufficient" in reason:
        return "enlarge the pool or lower requests; during an upgrade there are two clusters: `shoplens cluster doctor`"
    if "taint" in reason or "affinity" in reason or "selector" in reason:
        return "set tolerations and affinity of this group in the values to what the nodes have"
    if "persistentvolumeclaim" in reason.lower() or "volume" in reason:
        return "look at the claim: `kubectl get pvc`; is there a storage class (`shoplens cluster doctor`)?"
    return "`kubectl describe pod` says more"


def _trouble(pod: Pod, trouble: Trouble) -> Finding:
    what = f"pod {pod.name}, container {trouble.container}: {trouble.reason}"
    what += f": {short(trouble.message, 200)}" if trouble.message else ""
    if trouble.reason in IMAGE_TROUBLES:
        return Finding(what, f"is {trouble.image} there, and do image.pullSecrets open it? Else `helm rollback`")
    if trouble.reason in CONFIG_TROUBLES:
        return Finding(what, "a Secret or ConfigMap, or a key of one, is missing: `shoplens cluster doctor`")
    return Finding(what, f"`kubectl logs {pod.name} -c {trouble.container} --previous`, or without --previous")


def _health(seen: Snapshot) -> Iterator[Finding]:
    reason = seen.health.reason
    if seen.health.ready is not False or seen.service.active is None:
        return
    if "there is no index" in reason:
        todo = "import a catalogue: start the CronJob of the import by hand, or `shoplens import`"
    elif "not as Shoplens" in reason:
        todo = "is this the right release (--release), and does nothing stand between?"
    else:
        todo = "is Milvus up, and its Secret right? The pods' logs say more"
    yield Finding(f"the service says that it is not ready: {reason}", todo)


def _milvus(pods: Iterable[Pod]) -> Iterator[Finding]:
    for pod in pods:
        if not pod.ready and pod.phase not in ("Succeeded", "Terminating"):
            yield Finding(
                f"Milvus's pod {pod.name} is not ready ({pod.phase})",
                f"`kubectl describe pod {pod.name}` in its namespace",
            )


def _import(seen: Snapshot) -> Iterator[Finding]:
    last = seen.last_import
    if last is not None and last.status in FAILED_IMPORTS:
        yield Finding(
            f"the last import, {last.name}, is {last.status}: {short(last.message)}",
            f"`kubectl logs -l ray.io/originated-from-cr-name={last.name}`; mend it, then start the CronJob by hand",
        )
