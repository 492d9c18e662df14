"""`shoplens cluster …`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serve_app.cli.options import console
from serve_app.errors import BadInput

if TYPE_CHECKING:
    from serve_app.cluster.facts import SecretRef

app = typer.Typer(help="A Shoplens that runs on Kubernetes: what it does, and what is wrong.", no_args_is_help=True)

NamespaceOption = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Namespace of the release; default: the context's.")
]
ReleaseOption = Annotated[str, typer.Option("--release", help="Name of the Helm release.")]
ContextOption = Annotated[
    str | None, typer.Option("--context", help="Context of the kubeconfig; default: its current.")
]
MilvusOption = Annotated[
    str | None, typer.Option("--milvus-namespace", help="Namespace of Milvus; default: the release's.")
]
OperatorOption = Annotated[str, typer.Option("--operator-namespace", help="Namespace of KubeRay's operator.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

OPERATOR_NAMESPACE = "kuberay-system"
_DURATION = re.compile(r"(\d+)([smhd]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


@app.command()
def status(
    namespace: NamespaceOption = None,
    release: ReleaseOption = "shoplens",
    context: ContextOption = None,
    milvus_namespace: MilvusOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show stages, pods, GPUs, index and Milvus on one screen, and what is wrong with what to do.

    Exits with 0 when all is well, and 4 when something is wrong.
    """
    from serve_app.cli.cluster_commands import Where, show_status

    where = Where(context, namespace, release, milvus_namespace, OPERATOR_NAMESPACE)
    show_status(where, console(), as_json=as_json)


@app.command()
def wait(
    timeout: Annotated[str, typer.Option(help="How long at most, as `90s`, `15m` or `1h`.")] = "15m",
    namespace: NamespaceOption = None,
    release: ReleaseOption = "shoplens",
    context: ContextOption = None,
) -> None:
    """Wait until the release runs as it was installed; `helm --wait` does not wait for that.

    Ends early where it will not heal by itself: an image that can't be had, a stage that doesn't start.
    """
    from serve_app.cli.cluster_commands import Where, wait_for

    wait_for(Where(context, namespace, release, None, OPERATOR_NAMESPACE), seconds(timeout), console())


@app.command()
def doctor(
    before: Annotated[bool, typer.Option("--before", help="Before an install: look at the cluster only.")] = False,
    secret: Annotated[
        list[str] | None, typer.Option(help="A Secret that has to be there, NAME:KEY; may be given several times.")
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="What `helm template` printed, or `-`: its needs are checked; implies --before.")
    ] = None,
    namespace: NamespaceOption = None,
    release: ReleaseOption = "shoplens",
    context: ContextOption = None,
    operator_namespace: OperatorOption = OPERATOR_NAMESPACE,
    as_json: JsonOption = False,
) -> None:
    """Check that the cluster has what an install and an upgrade need; exits with 3 where it lacks something.

    helm template shoplens helm/shoplens -f values.yaml | shoplens cluster doctor --manifest -
    """
    from serve_app.cli.cluster_commands import Where, run_doctor

    where = Where(context, namespace, release, None, operator_namespace)
    references = [secret_ref(each) for each in secret or []]
    run_doctor(where, manifest, references, console(), before=before or manifest is not None, as_json=as_json)


@app.command()
def logs(
    request_id: Annotated[str, typer.Argument(help="As in the answer's `request_id` and its header X-Request-ID.")],
    since: Annotated[str, typer.Option(help="How far back, as `30m`, `2h` or `1d`.")] = "1h",
    namespace: NamespaceOption = None,
    release: ReleaseOption = "shoplens",
    context: ContextOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what all pods logged about one request, in the order of time."""
    from serve_app.cli.cluster_commands import Where, show_logs

    where = Where(context, namespace, release, None, OPERATOR_NAMESPACE)
    show_logs(where, request_id, int(seconds(since)), console(), as_json=as_json)


def seconds(text: str) -> float:
    """Read a duration; raises BadInput."""
    match = _DURATION.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise BadInput(f"{text} is no duration; write it as 90s, 15m, 2h or 1d")
    return float(int(match[1]) * _SECONDS[match[2]])


def secret_ref(text: str) -> SecretRef:
    """Read NAME:KEY; raises BadInput."""
    from serve_app.cluster.facts import SecretRef

    name, _, key = text.partition(":")
    if not name or not key:
        raise BadInput(f"{text} names no key; write --secret NAME:KEY")
    return SecretRef(name, key)
