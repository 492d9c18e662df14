"""Settings: one YAML file, overridden by SHOPLENS_A__B variables.

Secrets come from the environment or from files alone, never from the YAML file.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    SecretStr,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from serve_app.errors import BadConfig
from serve_app.languages import LANGUAGES

DETECTOR_FILE = Path("weights/yolo26n.pt")
"""Where the detector's weights lie in the data directory."""
RATES_FILE = Path("rates.csv")
RULES_FILE = Path("rules.yaml")
BROWSER_FOLDER = Path("browser")
IMPORTED: Final = "imported"
"""Stands for the folders that this data directory's imports read from."""

Device = Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$")]
Stage = Literal["detector", "embedder"]
Compiler = Literal["openvino", "onnxruntime"]
"""What runs networks that `shoplens weights compile` made; each is a package, and an extra of the same name."""
Precision = Literal["fp32", "bf16", "int8"]
PRECISIONS: Final[Mapping[Compiler, tuple[Precision, ...]]] = {
    "openvino": ("fp32", "bf16", "int8"),
    "onnxruntime": ("fp32", "int8"),
}
"""ONNX Runtime has no bf16 kernels for CPUs."""


def _ip_address(text: str) -> str:
    if text == "localhost":
        return "127.0.0.1"
    return str(ipaddress.ip_address(text))


IpAddress = Annotated[str, AfterValidator(_ip_address)]


def precisions_of(backend: str) -> tuple[Precision, ...]:
    """Return what a stage's backend can compute with."""
    if backend == "auto":
        every: tuple[Precision, ...] = get_args(Precision)
        return every
    return next((known for name, known in PRECISIONS.items() if name == backend), ("fp32",))


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ScalingConfig(Section):
    """How many replicas a stage may have, and when it gets them."""

    min_replicas: int = Field(1, ge=0, description="fewest replicas; 0 lets the stage go to zero")
    max_replicas: int = Field(1, ge=1, description="most replicas")
    target_utilisation: float = Field(
        0.7, gt=0, le=1, description="part of a replica's time that is to be spent on work"
    )
    drain_s: float = Field(5, gt=0, description="seconds in which what waits is to be worked off")
    upscale_delay_s: float = Field(1.5, ge=0, description="seconds that more replicas have to be needed for")
    downscale_delay_s: float = Field(60, ge=0, description="seconds that a replica has to be spare for")
    downscale_to_zero_delay_s: float = Field(300, ge=0, description="seconds without work before the last replica goes")

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas is {self.min_replicas}, more than max_replicas, {self.max_replicas}")
        return self


class StageConfig(Section):
    """What one Ray Serve deployment gets."""

    num_cpus: float = Field(0.1, ge=0, description="logical CPUs that Ray reserves per replica")
    num_gpus: float = Field(0, ge=0, description="GPUs per replica; fractions share one")
    max_ongoing_requests: int = Field(64, ge=1, description="requests a replica works on at once")
    max_queued_requests: int = Field(
        256, ge=1, description="requests that wait at each caller; the ingress refuses before that"
    )
    scaling: ScalingConfig = ScalingConfig()
    health_check_period_s: float = Field(10, gt=0, description="seconds between health checks")
    health_check_timeout_s: float = Field(30, gt=0, description="seconds until a health check counts as failed")
    graceful_shutdown_timeout_s: float = Field(20, gt=0, description="seconds a replica may finish its work in")
    label_selector: dict[str, str] = Field({}, description="labels of the Ray nodes that replicas may run on")
    max_replicas_per_node: int | None = Field(
        None, ge=1, le=100, description="most replicas on one Ray node; default: as many as fit"
    )


class ModelStageConfig(StageConfig):
    device: Device = Field("cpu", description="`cpu` or `cuda`; a GPU that is asked for and missing is an error")
    backend: Literal["auto", "torch", Compiler] = Field(
        "auto",
        description="what runs the model: `torch`; on CPUs also `openvino` or `onnxruntime`, once `shoplens weights "
        "compile` has made it; `auto`: the faster one that it made here, else `torch`",
    )
    precision: Precision = Field(
        "fp32", description="numbers that a compiled model computes with: `fp32`, `bf16` or `int8`"
    )
    threads: int = Field(1, ge=1, description="CPU threads the model computes with")
    max_batch: int = Field(8, ge=1, description="most crops (embedder) or photos (detector) in one batch")
    max_queued_items: int = Field(1024, ge=1, description="crops or photos that wait for the model; more are refused")

    @model_validator(mode="after")
    def _uses_its_gpu(self) -> Self:
        if self.num_gpus and self.device == "cpu":
            raise ValueError("num_gpus gives this stage a GPU, but its device is cpu; set device: cuda, or num_gpus: 0")
        return self

    @model_validator(mode="after")
    def _can_compute_so(self) -> Self:
        if self.backend in PRECISIONS and self.device != "cpu":
            raise ValueError(f"{self.backend} runs on CPUs; set device: cpu, or backend: torch")
        if self.precision not in precisions_of(self.backend):
            raise ValueError(f"{self.backend} does not compute with {self.precision}; set another backend or precision")
        return self


class DetectorConfig(ModelStageConfig):
    max_queued_items: int = Field(64, ge=1, description="photos that wait for the model; more are refused")
    weights: Path | None = Field(None, description="YOLO weights; default: DATA_DIR/weights/yolo26n.pt")
    sha256: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        description="what `weights` of your own have to have, since opening them runs what they hold; default: the "
        "release's",
    )
    side_px: int = Field(640, ge=32, multiple_of=32, description="long side of the photo the detector sees, px")
    min_confidence: float = Field(0.25, ge=0, le=1, description="detections below are dropped")

    @model_validator(mode="after")
    def _names_its_weights(self) -> Self:
        if self.sha256 is not None and self.weights is None:
            raise ValueError("sha256 is of weights of your own; set weights to their file")
        return self


class EmbedderConfig(ModelStageConfig):
    head: Path | None = Field(
        None, description="a head or network of your own (safetensors, ONNX); default: the starter head"
    )
    model: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{12}$",
        description="fingerprint of a registered model, in place of `head`: what `shoplens model promote` rolls out",
    )
    calibration: Path | None = Field(
        None,
        description="curve of this model for `match`, as `shoplens evaluate search --fit` writes it; default: that of "
        "its entry, where `model` names one",
    )
    threads: int = Field(2, ge=1, description="CPU threads the model computes with; its work is twice the detector's")
    max_batch: int = Field(16, ge=1, description="most crops in one batch")

    @model_validator(mode="after")
    def _is_one_model(self) -> Self:
        if self.head is not None and self.model is not None:
            raise ValueError("head and model name two embedders; set one of them")
        return self


class ShadowConfig(Section):
    """Which model is tried on shoppers' searches beside the one that answers them; changed without a restart."""

    model: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{12}$",
        description="fingerprint of a registered model that repeats a part of the searches, in an embedder of its own "
        "with the settings of `embedder`; what it finds is compared and shown to nobody; default: none",
    )
    share: float = Field(0.05, gt=0, le=1, description="part of the searches with a photo that it repeats")
    max_at_once: int = Field(2, ge=1, description="searches that it repeats at once per ingress replica, and no more")


class SearchParams(Section):
    """What trades recall for speed; changed without a restart."""

    ef: int = Field(128, ge=1, description="HNSW, HNSW_SQ: candidates kept while searching")
    nprobe: int = Field(64, ge=1, description="IVF_SQ8, IVF_RABITQ: lists looked into")
    search_list: int = Field(128, ge=1, description="DISKANN: candidates kept while searching")
    itopk_size: int = Field(128, ge=1, description="GPU_CAGRA: candidates kept while searching")
    refine_k: float = Field(2, ge=1, description="IVF_RABITQ: candidates refined per hit asked for")


class SearcherConfig(StageConfig):
    candidates_per_product: int = Field(4, ge=1, description="rows fetched per product asked for, before grouping")
    params: SearchParams = SearchParams()


class RankingConfig(Section):
    """How products are put in order."""

    price_band: float = Field(
        0.1, ge=0, le=2, description="sorted by price are products whose scores lie so close together"
    )
    rules: Path | None = Field(
        None, description="file of rules that boost, bury, hide or pin products; default: DATA_DIR/rules.yaml"
    )
    rules_band: float = Field(
        0.03, ge=0, le=2, description="rules put products in order whose scores lie so close together, 20 at most"
    )
    sold_out_last: bool = Field(True, description="products that are sold out come last among those")


class IngressConfig(StageConfig):
    max_ongoing_requests: int = Field(256, ge=1, description="requests a replica works on at once")
    max_in_flight: int = Field(64, ge=1, description="searches in work per ingress replica; more are answered 429")
    latency_goal_s: float = Field(
        1, gt=0, description="while more comes in than can be answered, what would take longer is answered 429"
    )
    graceful_shutdown_timeout_s: float = Field(30, gt=0, description="seconds a replica may finish its work in")


class DegradationConfig(Section):
    """What an answer may lack, flagged in `degraded`; else the search is refused."""

    no_detector: bool = Field(True, description="search the whole photo while the detector is away")
    partial_index: bool = Field(True, description="answer with a part of the index while the rest is away")


class StoreConfig(Section):
    """Where photos and rankings are kept for searches by token and for further pages."""

    max_bytes: int = Field(256 * 2**20, ge=1, description="bytes that are kept in all; the oldest photos go first")
    max_bytes_per_key: int = Field(64 * 2**20, ge=1, description="bytes that are kept for one API key")
    expiry_s: float = Field(900, gt=0, description="seconds that a photo's token is good for")
    timeout_s: float = Field(0.5, gt=0, description="seconds until a call to the store is given up")
    redis_url: str | None = Field(
        None,
        pattern=r"^(redis|rediss)://[^@\s]+$|^unix://[^@\s]+$",
        description="redis://HOST:6379/0 of a Redis server (extra `redis`), bounded by its `maxmemory`; default: "
        "an actor of the Ray cluster",
    )
    redis_password: SecretStr = Field(
        SecretStr(""), description="only from SHOPLENS_STORE__REDIS_PASSWORD or redis_password_file"
    )
    redis_password_file: Path | None = Field(None, description="file that holds the password")
    signing_key: SecretStr = Field(
        SecretStr(""),
        description="what cursors are signed with, only from SHOPLENS_STORE__SIGNING_KEY or signing_key_file; default: "
        "one that the store makes",
    )
    signing_key_file: Path | None = Field(None, description="file that holds the key")


class CacheConfig(Section):
    """What each ingress replica remembers of photos, so that one which comes again needs no model."""

    enabled: bool = Field(
        False, description="know a photo again that its key, or whoever has none, sent before; never a photo itself"
    )
    max_entries: int = Field(10_000, ge=1, description="photos that are remembered; the least used go first")
    max_bytes: int = Field(64 * 2**20, ge=1, description="bytes that boxes and embeddings of them take")
    expiry_s: float = Field(900, gt=0, description="seconds that a photo is remembered for")


class HttpConfig(Section):
    host: IpAddress = Field("127.0.0.1", description="IP address the service listens on")
    port: int = Field(8000, ge=1, le=65535, description="port the service listens on")
    metrics_port: int = Field(8001, ge=1, le=65535, description="port of this node's metrics, shown at /metrics too")
    request_timeout_s: float | None = Field(
        None, gt=0, description="seconds until Ray Serve answers 408, longer than any deadline below; default: never"
    )


Origin = Annotated[str, StringConstraints(pattern=r"^(\*|https?://([a-z0-9._-]+|\[[0-9a-f:]+\])(:\d{1,5})?)$")]


class AuthConfig(Section):
    """Who may call, and how often."""

    keys: SecretStr = Field(
        SecretStr(""), description="lines of `shoplens keys new`, only from SHOPLENS_AUTH__KEYS or keys_file"
    )
    keys_file: Path | None = Field(None, description="file that holds them; read again when it changes")
    anonymous_search: bool = Field(
        False,
        description="let everyone search who can reach the service; beyond loopback it starts only with keys, with "
        "this, or with `public`",
    )
    public: bool = Field(
        False, description="let pages of this service and of `origins` search without a key, by upload and own token"
    )
    origins: tuple[Origin, ...] = Field(
        (), description="pages that may call from a browser (CORS), as https://shop.example.com, or `*`"
    )
    trusted_proxies: tuple[IPvAnyNetwork, ...] = Field(
        (), description="networks of proxies whose X-Forwarded-For is believed, as `10.0.0.0/8`; for `public`"
    )
    requests_per_minute_per_key: int = Field(
        600, ge=1, description="requests of each key whose line says nothing else; more are answered 429"
    )
    requests_per_minute_per_address: int = Field(
        60, ge=1, description="`public` requests of each client address (IPv6: its /64); more are answered 429"
    )

    @model_validator(mode="after")
    def _is_one_of_two(self) -> Self:
        if self.public and self.anonymous_search:
            raise ValueError("anonymous_search lets everyone do what public would; set one of the two")
        return self


class TracingConfig(Section):
    """Where OpenTelemetry traces go."""

    exporter: str = Field(
        "",
        pattern=r"^([\w.]+:\w+)?$",
        description="`MODULE:FUNCTION` that returns OpenTelemetry span processors; default: no traces",
    )
    sampling_ratio: float = Field(0.01, ge=0, le=1, description="part of the requests that is traced")


class LimitsConfig(Section):
    max_body_bytes: int = Field(20 * 2**20, ge=1, description="larger bodies are answered 413")
    max_pixels: int = Field(50_000_000, ge=1, description="photos with more pixels are answered 413")
    max_objects: int = Field(10, ge=1, le=10, description="most objects found in a photo")
    deadline_s: float = Field(5, gt=0, description="seconds until a search is answered 504")
    cold_deadline_s: float = Field(30, gt=0, description="the same where a stage may start from zero")
    write_deadline_s: float = Field(60, gt=0, description="seconds until a write of products is answered 504")


IndexType = Literal["AUTO", "FLAT", "HNSW", "HNSW_SQ", "IVF_SQ8", "IVF_RABITQ", "DISKANN", "GPU_CAGRA"]


class MilvusConfig(Section):
    uri: str | None = Field(None, description="http://HOST:19530 of a Milvus server; default: Milvus Lite in DATA_DIR")
    more_uris: tuple[str, ...] = Field(
        (), description="further proxies of the same Milvus: a slow or failed search is tried at another one"
    )
    user: str = Field("", description="user name, where the server asks for one")
    password: SecretStr = Field(SecretStr(""), description="only from SHOPLENS_MILVUS__PASSWORD or password_file")
    password_file: Path | None = Field(None, description="file that holds the password")
    attempt_timeout_s: float = Field(1, gt=0, description="seconds until a search goes to another proxy")
    search_deadline_s: float = Field(4, gt=0, description="seconds that a search is tried again for")
    write_timeout_s: float = Field(30, gt=0, description="seconds until one write attempt is given up")
    write_deadline_s: float = Field(120, gt=0, description="seconds that a write is tried again for")
    index_type: IndexType = Field(
        "AUTO", description="AUTO is FLAT on Milvus Lite, HNSW on a server; what an engine lacks is refused"
    )
    hnsw_m: int = Field(16, ge=2, le=2048, description="HNSW, HNSW_SQ: links per vector")
    hnsw_ef_construction: int = Field(200, ge=1, description="HNSW, HNSW_SQ: candidates kept while building")
    ivf_nlist: int = Field(1024, ge=1, le=65_536, description="IVF_SQ8, IVF_RABITQ: lists that vectors are put into")
    num_shards: int = Field(1, ge=1, le=16, description="shards of a new collection (servers only)")
    num_partitions: int = Field(16, ge=1, description="partitions that categories are spread over")
    replica_number: int = Field(1, ge=1, description="copies of a collection in memory (servers only)")


class ImportConfig(Section):
    views: Literal["whole", "whole+object"] = Field("whole+object", description="which views of an image are indexed")
    min_confidence: float = Field(0.4, ge=0, le=1, description="a main object below gets no view of its own")
    min_side_px: int = Field(32, ge=1, description="smaller images are left out")
    block_rows: int = Field(64, ge=1, description="images that are compared with the index at once")
    images_at_once: int = Field(16, ge=1, description="images that are read, and go through the models, together")
    readers: int = Field(1, ge=1, description="workers that read, compare and decode")
    workers: int = Field(1, ge=1, description="model workers")
    writers: int = Field(1, ge=1, description="workers that write to Milvus")
    writes_at_once: int = Field(4, ge=1, description="writes that a writer has under way")
    threads: int = Field(2, ge=1, description="CPU threads of each reader and of each model worker")
    device: Device = Field("cpu", description="`cpu` or `cuda`")
    max_error_ratio: float = Field(
        0.05, ge=0, le=1, description="an import of which more is left out ends with an error, and removes nothing"
    )
    max_removed_share: float = Field(
        0.1, ge=0, le=1, description="a full feed that lacks more of what it held needs --yes to remove it"
    )


HostPattern = Annotated[
    str, StringConstraints(to_lower=True, pattern=r"^(\*\.)?[a-zA-Z0-9_-]+(\.[a-zA-Z0-9_-]+)*$", max_length=253)
]


class FetchConfig(Section):
    """Which URLs may be fetched, and how politely."""

    allow_hosts: tuple[HostPattern, ...] = Field(
        (), description="hosts that may be fetched from, `*.example.com` for all below a name; default: all public ones"
    )
    allow_private: tuple[IPvAnyNetwork, ...] = Field(
        (), description="networks that may be fetched from though they are not public, as `10.20.0.0/16`"
    )
    search_hosts: tuple[HostPattern, ...] = Field(
        (),
        description="hosts that the photo of a search may be fetched from by `url`, named as in allow_hosts; default: "
        "none, and no search takes a `url`",
    )
    max_searches: int = Field(
        64,
        ge=1,
        description="searches per ingress replica that wait for their photo to come by `url`; more are answered 429",
    )
    connections: int = Field(64, ge=1, description="most requests at once, in all")
    connections_per_host: int = Field(8, ge=1, description="most requests at once to one host")
    requests_per_s_per_host: float = Field(50, gt=0, description="most requests to one host in a second")
    timeout_s: float = Field(20, gt=0, description="seconds until an attempt is given up, redirects and body included")
    connect_timeout_s: float = Field(5, gt=0, description="seconds until a connection attempt is given up")
    attempts: int = Field(3, ge=1, description="most attempts at a URL whose server fails, is away or is too busy")
    max_redirects: int = Field(5, ge=0, description="most redirects that are followed")
    longest_wait_s: float = Field(
        30, ge=1, description="a server's wish (Retry-After) to be left alone for longer is a failure"
    )
    user_agent: str = Field(
        "Shoplens", pattern=r"^[ -~]+$", description="what servers are told; best with an address you can be reached at"
    )


SET_BY_FEED = ("bootstrap.servers", "group.id", "enable.auto.commit", "enable.auto.offset.store", "auto.offset.reset")
_SECRET = re.compile(r"password|secret|private|key\.pem$")


class FeedConfig(Section):
    """Where events for minutes-fresh updates come from, and how many are applied at once."""

    kafka_servers: str = Field("", description="Kafka brokers as `HOST:PORT,HOST:PORT`")
    topic: str = Field("", description="Kafka topic that holds the events")
    group: str = Field("shoplens", min_length=1, description="Kafka consumer group that remembers what was applied")
    kafka_options: dict[str, str] = Field(
        {}, description="further options of librdkafka, as `security.protocol`, `sasl.mechanism` and `sasl.username`"
    )
    kafka_password: SecretStr = Field(
        SecretStr(""), description="sasl.password, only from SHOPLENS_FEED__KAFKA_PASSWORD or kafka_password_file"
    )
    kafka_password_file: Path | None = Field(None, description="file that holds the password")
    batch_events: int = Field(64, ge=1, le=10_000, description="most events that are applied together")
    batch_s: float = Field(1, gt=0, description="seconds that a batch waits for more events")
    deletes_kept_s: float = Field(
        7 * 24 * 3600, gt=0, description="seconds that a delete is remembered for, so that late events undo nothing"
    )

    @field_validator("kafka_options")
    @classmethod
    def _hold_no_secret(cls, options: dict[str, str]) -> dict[str, str]:
        for name in options:
            if name in SET_BY_FEED:
                raise ValueError(f"{name} is set by the feed itself")
            if _SECRET.search(name):
                raise ValueError(f"{name} may not stand here; sasl.password comes from kafka_password_file")
        return options


class MarketConfig(Section):
    """In which languages and currencies shoppers see the catalogue."""

    language: str = Field("en", description="language of who asks for none of the known ones")
    rates: Path | None = Field(
        None, description="file of exchange rates, as `shoplens rates load` takes it; default: DATA_DIR/rates.csv"
    )
    rates_max_age_days: int = Field(7, ge=1, description="prices that older rates converted are marked as stale")
    stored_currencies: tuple[str, ...] = Field(
        (), max_length=100, description="currencies of the catalogue's prices; default: all that have a rate"
    )

    @field_validator("language")
    @classmethod
    def _is_known(cls, language: str) -> str:
        if language not in LANGUAGES:
            raise ValueError(f"known are {', '.join(LANGUAGES)}")
        return language


class FeedbackConfig(Section):
    """What is kept of searches and of what shoppers did with them."""

    enabled: bool = Field(False, description="log which products searches show, and take POST /v1/feedback")
    folder: str | None = Field(
        None,
        description="folder, s3:// or gs:// prefix of the log, shared by replicas; default: DATA_DIR/feedback",
    )
    flush_s: float = Field(
        300, gt=0, description="seconds until what was logged is in a file; a killed replica loses as much"
    )
    rows_per_file: int = Field(10_000, ge=1, description="lists and acts that are written together before that")
    kept_days: float = Field(90, gt=0, description="days that the log is kept")
    max_bytes: int = Field(2**30, ge=1, description="bytes of the log that are kept; the oldest files go first")
    max_files: int = Field(20_000, ge=1, description="files of the log, and of crops, that are kept")
    keep_crops: bool = Field(
        False, description="keep what was searched with where feedback comes with the shopper's `consent`"
    )
    crops_kept_days: float = Field(30, gt=0, description="days that such a crop is kept")
    crops_max_bytes: int = Field(2**30, ge=1, description="bytes of crops that are kept; the oldest go first")


class ModelsConfig(Section):
    """Where models are registered."""

    registry: str | None = Field(
        None, description="folder, s3:// or gs:// prefix of registered models; default: DATA_DIR/models"
    )


class PageConfig(Section):
    """The page that shoppers search on, at /."""

    picture_sources: tuple[Annotated[str, Field(pattern=r"^https?:(//(\*\.)?[A-Za-z0-9.-]+(:[0-9]+)?)?$")], ...] = (
        Field(
            (),
            description="where the page may load catalogue pictures from beside the service itself: "
            "`https://cdn.example.com`, `https://*.example.com`, or `https:` for any",
        )
    )
    product_url: str = Field(
        "",
        pattern=r"^((https?://|/)[^\s{}]*\{product_id\}[^\s{}]*)?$",
        description="where a product's card leads: `https://shop.example.com/products/{product_id}`; default: nowhere",
    )
    source_url: str = Field(
        "",
        pattern=r"^(https?://[^\s]+)?$",
        description="where the source of the running version is, which the AGPL-3.0 promises its users; default: the "
        "service hands out what is installed",
    )
    facets: dict[Annotated[str, Field(pattern=r"^[^\n]{1,200}$")], dict[str, str]] = Field(
        {},
        max_length=9,
        description="attributes that shoppers may narrow by, 9 at most, each with its name by language: "
        "`{colour: {en: Colour, de: Farbe}}`, or `{}` for its own",
    )
    detector: Path | None = Field(
        None,
        description="folder of what browsers find objects with before the service answers, made by `shoplens weights "
        "browser`; default: DATA_DIR/browser. Where it is missing they find nothing by themselves",
    )
    image_folders: Literal["imported"] | tuple[Path, ...] | None = Field(
        None,
        description="folders whose imported pictures are shown, at /v1/images; `imported`: those that imports on this "
        "machine read from, which is the default of `serve` with a Milvus of its own, else none",
    )


class Config(BaseSettings):
    """All settings of Shoplens."""

    model_config = SettingsConfigDict(
        env_prefix="SHOPLENS_",
        env_prefix_target="all",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
    )

    catalogue: str = Field(
        "products", pattern=r"^[a-z][a-z0-9_]{0,63}$", description="name that its collections start with"
    )
    data_dir: Path = Field(
        default_factory=lambda: default_data_dir(os.environ), description="weights, local index, Ray's files"
    )
    log_file: Path | None = Field(
        None, description="JSON log; default: standard error, for `serve` on a laptop DATA_DIR/logs"
    )
    http: HttpConfig = HttpConfig()
    auth: AuthConfig = AuthConfig()
    tracing: TracingConfig = TracingConfig()
    limits: LimitsConfig = LimitsConfig()
    degradation: DegradationConfig = DegradationConfig()
    ranking: RankingConfig = RankingConfig()
    store: StoreConfig = StoreConfig()
    cache: CacheConfig = CacheConfig()
    milvus: MilvusConfig = MilvusConfig()
    ingress: IngressConfig = IngressConfig()
    detector: DetectorConfig = DetectorConfig()
    embedder: EmbedderConfig = EmbedderConfig()
    searcher: SearcherConfig = SearcherConfig()
    shadow: ShadowConfig = ShadowConfig()
    importing: ImportConfig = Field(ImportConfig(), alias="import")
    fetch: FetchConfig = FetchConfig()
    feed: FeedConfig = FeedConfig()
    market: MarketConfig = MarketConfig()
    page: PageConfig = PageConfig()
    feedback: FeedbackConfig = FeedbackConfig()
    models: ModelsConfig = ModelsConfig()

    @model_validator(mode="after")
    def _ingress_refuses_first(self) -> Self:
        most = self.ingress.max_in_flight
        if most >= self.ingress.max_ongoing_requests:
            raise ValueError(f"ingress.max_ongoing_requests must be more than ingress.max_in_flight, which is {most}")
        waiting = self.fetch.max_searches if self.fetch.search_hosts else 0
        if waiting and most + waiting >= self.ingress.max_ongoing_requests:
            raise ValueError(
                "ingress.max_ongoing_requests must be more than ingress.max_in_flight and fetch.max_searches together, "
                f"which are {most + waiting}: else slow hosts could keep out photos that are sent"
            )
        for name in ("detector", "embedder", "searcher"):
            if most > getattr(self, name).max_queued_requests:
                raise ValueError(f"{name}.max_queued_requests must be at least ingress.max_in_flight, which is {most}")
        return self

    @property
    def detector_weights(self) -> Path:
        return self.detector.weights or self.data_dir / DETECTOR_FILE

    @property
    def browser_detector_folder(self) -> Path:
        return self.page.detector or self.data_dir / BROWSER_FOLDER

    @property
    def rates_file(self) -> Path:
        return self.market.rates or self.data_dir / RATES_FILE

    @property
    def rules_file(self) -> Path:
        return self.ranking.rules or self.data_dir / RULES_FILE

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings


def default_data_dir(environ: Mapping[str, str]) -> Path:
    """Return the XDG data folder of Shoplens."""
    return Path(environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "shoplens"


def load_config(path: Path | None = None, *, data_dir: Path | None = None) -> Config:
    """Read the settings from `path`, if given, and from the environment.

    `data_dir` wins over both. Raises BadConfig, naming each setting that is wrong.
    """
    values = _read_yaml(path) if path else {}
    if data_dir is not None:
        values["data_dir"] = data_dir
    try:
        config = Config(**values)
    except ValidationError as error:
        raise _wrong(error) from error
    if data_dir is not None and config.data_dir != data_dir:
        config = config.model_copy(update={"data_dir": data_dir})
    return config


def at_address(config: Config, host: str | None, port: int | None) -> Config:
    """Return the settings with another address of the service, where one is given; raises BadConfig."""
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    try:
        http = HttpConfig.model_validate(config.http.model_dump() | given)
    except ValidationError as error:
        raise _wrong(error) from error
    return config.model_copy(update={"http": http})


def _wrong(error: ValidationError) -> BadConfig:
    problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    return BadConfig(f"the settings are wrong: {problems}")


SECRETS = (
    ("auth", "keys"),
    ("milvus", "password"),
    ("store", "redis_password"),
    ("store", "signing_key"),
    ("feed", "kafka_password"),
)
"""Section and name of what comes only from the environment, or a file of its own."""


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadConfig(f"{path} can't be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise BadConfig(f"{path} must hold settings as `name: value` lines")
    for section, name in SECRETS:
        if name in (values.get(section) or {}):
            variable = f"SHOPLENS_{section}__{name}".upper()
            raise BadConfig(f"{section}.{name} may not stand in a file of settings; use {variable}")
    return values
