"""The one error tree.

    ShoplensError
    ├── BadInput                 the caller can mend it
    │   ├── EmptyBody            400 empty_body
    │   ├── UploadTimeout        408 upload_timeout
    │   ├── PhotoTooLarge        413 photo_too_large
    │   ├── TooManyPixels        413 too_many_pixels
    │   ├── UnsupportedType      415 unsupported_type
    │   ├── NotAnImage           422 not_an_image
    │   ├── Truncated            422 truncated
    │   ├── TooSmall             422 too_small
    │   ├── BadParameter         422 bad_parameter
    │   ├── UnknownProduct       404 unknown_product
    │   ├── UnknownModel         404 unknown_model
    │   ├── UnknownImage         404 unknown_image
    │   └── PhotoExpired         410 photo_expired
    ├── NotAllowed               the caller may not do this
    │   ├── KeyRequired          401 key_required
    │   ├── KeyUnknown           401 key_unknown
    │   ├── Forbidden            403 forbidden
    │   └── OriginRefused        403 origin_refused
    ├── Unavailable              worth trying again
    │   ├── Overloaded           429 overloaded
    │   ├── QuotaExceeded        429 quota_exceeded
    │   ├── IndexMissing         503 index_missing
    │   ├── MilvusUnavailable    503 milvus_unavailable
    │   │   └── FailingOver      503 milvus_unavailable: a proxy answers that the index can't
    │   ├── StageUnavailable     503 stage_unavailable
    │   │   ├── DeviceFailed     503 stage_unavailable: the GPU is of no use to this process any more
    │   │   └── DeviceOutOfMemory
    │   ├── DeadlineExceeded     504 deadline_exceeded
    │   └── KubernetesUnavailable  the API server of a cluster, or what is behind its proxy
    ├── FetchFailed              502 fetch_failed: the file at a URL can't be had
    │   ├── UrlRefused           422 url_refused
    │   ├── UrlNotFound          422 not_found
    │   ├── FetchDenied          422 fetch_denied
    │   └── FetchTimeout         504 fetch_timeout
    └── SetupError               the operator can mend it
        ├── BadConfig
        ├── BadWeights
        ├── ExportFailed
        ├── BadManifest
        ├── TooMuchGone
        ├── TooManyProblems
        ├── NotVerified
        ├── NoKubeconfig
        ├── RightMissing
        ├── NotInstalled
        ├── RolloutFailed
        ├── GateClosed
        └── RolledBack

Every error takes one positional message, so that it survives pickling between processes.
The message says what is wrong and, where there is a way on, what to do.
"""

from __future__ import annotations

from typing import ClassVar, Self


class ShoplensError(Exception):
    """Carry a message for people, an HTTP status and a stable code for programs."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    retry_after_s: float | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def after(self, seconds: float) -> Self:
        """Return this error with the seconds after which another try makes sense."""
        self.retry_after_s = seconds
        return self


class BadInput(ShoplensError):
    status = 422
    code = "bad_parameter"


class EmptyBody(BadInput):
    status = 400
    code = "empty_body"


class UploadTimeout(BadInput):
    """A body comes so slowly that it keeps others from being read."""

    status = 408
    code = "upload_timeout"


class PhotoTooLarge(BadInput):
    status = 413
    code = "photo_too_large"


class TooManyPixels(BadInput):
    status = 413
    code = "too_many_pixels"


class UnsupportedType(BadInput):
    status = 415
    code = "unsupported_type"


class NotAnImage(BadInput):
    code = "not_an_image"


class Truncated(BadInput):
    code = "truncated"


class TooSmall(BadInput):
    code = "too_small"


class BadParameter(BadInput):
    code = "bad_parameter"


class UnknownProduct(BadInput):
    status = 404
    code = "unknown_product"


class UnknownModel(BadInput):
    status = 404
    code = "unknown_model"


class UnknownImage(BadInput):
    """The index has no such image, or no picture of it that may be shown."""

    status = 404
    code = "unknown_image"


class PhotoExpired(BadInput):
    status = 410
    code = "photo_expired"


class NotAllowed(ShoplensError):
    status = 403
    code = "forbidden"


class KeyRequired(NotAllowed):
    status = 401
    code = "key_required"


class KeyUnknown(NotAllowed):
    status = 401
    code = "key_unknown"


class Forbidden(NotAllowed):
    code = "forbidden"


class OriginRefused(NotAllowed):
    """A page of this origin may not call without a key."""

    code = "origin_refused"


class Unavailable(ShoplensError):
    status = 503
    code = "stage_unavailable"
    retry_after_s = 1.0


class Overloaded(Unavailable):
    status = 429
    code = "overloaded"


class QuotaExceeded(Unavailable):
    """The caller has made all requests that it may make for now."""

    status = 429
    code = "quota_exceeded"


class IndexMissing(Unavailable):
    code = "index_missing"
    retry_after_s = 5.0


class MilvusUnavailable(Unavailable):
    code = "milvus_unavailable"


class FailingOver(MilvusUnavailable):
    """A proxy of Milvus answers, but what is behind it doesn't: the sign of a lost node or leader."""


class StageUnavailable(Unavailable):
    code = "stage_unavailable"


class DeviceFailed(StageUnavailable):
    """The GPU answers this process with errors only; a new process may have more luck."""


class DeviceOutOfMemory(StageUnavailable):
    """A batch did not fit into the device's memory."""


class DeadlineExceeded(Unavailable):
    status = 504
    code = "deadline_exceeded"


class KubernetesUnavailable(Unavailable):
    code = "kubernetes_unavailable"


class FetchFailed(ShoplensError):
    """The file at a URL can't be had; `retry_after_s` is set where it may be later."""

    status = 502
    code = "fetch_failed"


class UrlRefused(FetchFailed):
    """The settings, or the rules of safe fetching, keep this URL from being asked for."""

    status = 422
    code = "url_refused"


class UrlNotFound(FetchFailed):
    status = 422
    code = "not_found"


class FetchDenied(FetchFailed):
    status = 422
    code = "fetch_denied"


class FetchTimeout(FetchFailed):
    status = 504
    code = "fetch_timeout"


class SetupError(ShoplensError):
    code = "setup"


class BadConfig(SetupError):
    code = "bad_config"


class BadWeights(SetupError):
    code = "bad_weights"


class ExportFailed(SetupError):
    """A converter could not make the detector in a phone's format."""

    code = "export_failed"


class ParityMissed(SetupError):
    """A compiled network is not near enough to PyTorch's to be used."""

    code = "parity_missed"


class BadManifest(SetupError):
    code = "bad_manifest"


class TooMuchGone(SetupError):
    """A full feed lacks so much of what it held that it may be the feed that is broken."""

    code = "too_much_gone"


class TooManyProblems(SetupError):
    """Much of a manifest could not be imported."""

    code = "too_many_problems"


class NotVerified(SetupError):
    """An index must not be searched as it is."""

    code = "not_verified"


class NoKubeconfig(SetupError):
    """Nothing says which cluster is meant, or how to log in."""

    code = "no_kubeconfig"


class RightMissing(SetupError):
    """The user may not read this in the cluster."""

    code = "right_missing"


class NotInstalled(SetupError):
    """The cluster does not have this object."""

    code = "not_installed"


class RolloutFailed(SetupError):
    """What was installed will not come to run by waiting."""

    code = "rollout_failed"


class GateClosed(SetupError):
    """A new model finds less than the old one, or nothing tells that it doesn't."""

    code = "gate_closed"


class RolledBack(SetupError):
    """A new model did worse in service, and the old one is back."""

    code = "rolled_back"


def error_of(code: str) -> type[ShoplensError] | None:
    """Return the first class of the tree, from its root on, that has a code; None where none has it."""
    level: list[type[ShoplensError]] = [ShoplensError]
    while level:
        for each in level:
            if each.code == code:
                return each
        level = [below for each in level for below in each.__subclasses__()]
    return None
