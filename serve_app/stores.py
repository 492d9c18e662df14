"""The choice of the store that the settings name."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from serve_app.config import StoreConfig
from serve_app.errors import BadConfig
from serve_app.keeping import Bounds, Store
from serve_app.store_calls import ActorStore


def make_store(config: StoreConfig) -> Store:
    """Return the store; raises BadConfig where Redis is asked for and its package or password is missing."""
    bounds = Bounds(config.max_bytes, config.max_bytes_per_key, config.expiry_s)
    if config.redis_url is None:
        return ActorStore(bounds)
    try:
        from serve_app.redis_store import RedisStore
    except ImportError as error:
        raise BadConfig("store.redis_url needs the extra `redis`: pip install 'shoplens[redis]'") from error
    password = read_secret(config.redis_password, config.redis_password_file, "store.redis_password_file")
    return RedisStore(config.redis_url, password, bounds, config.timeout_s)


def signing_key(config: StoreConfig) -> bytes | None:
    """Return the key that the settings give, None where the store is to make one; raises BadConfig."""
    return read_secret(config.signing_key, config.signing_key_file, "store.signing_key_file").encode() or None


def read_secret(value: SecretStr, file: Path | None, name: str) -> str:
    """Return a secret of the environment, or of its file where that is named; raises BadConfig."""
    if file is None:
        return value.get_secret_value()
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"{name} can't be read: {error}") from error
