from pathlib import Path

import pytest

from serve_app.catalogue.recipe import index_properties
from serve_app.config import Config, at_address, default_data_dir, load_config
from serve_app.errors import BadConfig
from serve_app.weights.chosen import detector_sha256
from serve_app.weights.loader import DETECTOR_SHA256


def written(folder: Path, text: str) -> Path:
    path = folder / "shoplens.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_need_no_file():
    assert load_config().catalogue == "products"


def test_file_sets_values(tmp_path):
    config = load_config(written(tmp_path, "catalogue: shoes\nimport:\n  workers: 3\n"))
    assert (config.catalogue, config.importing.workers) == ("shoes", 3)


def test_environment_wins_over_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOPLENS_IMPORT__WORKERS", "5")
    assert load_config(written(tmp_path, "import:\n  workers: 3\n")).importing.workers == 5


def test_given_data_dir_wins_over_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOPLENS_DATA_DIR", "/elsewhere")
    assert load_config(data_dir=tmp_path).data_dir == tmp_path


def test_misspelt_setting_is_named(tmp_path):
    with pytest.raises(BadConfig, match=r"detector\.thread: Extra inputs"):
        load_config(written(tmp_path, "detector:\n  thread: 3\n"))


def test_misspelt_variable_is_named(monkeypatch):
    monkeypatch.setenv("SHOPLENS_DETECTOR__THREAD", "3")
    with pytest.raises(BadConfig, match=r"detector\.thread"):
        load_config()


def test_detector_of_a_shop_is_pinned_by_its_own_sha256(tmp_path):
    own = "ab" * 32
    config = load_config(written(tmp_path, f"detector:\n  weights: own.pt\n  sha256: {own}\n"))
    assert detector_sha256(config) == own
    assert detector_sha256(load_config()) == DETECTOR_SHA256
    assert index_properties(config)["shoplens.detector"] == own
    with pytest.raises(BadConfig, match="set weights to their file"):
        load_config(written(tmp_path, f"detector:\n  sha256: {own}\n"))


def test_value_out_of_range_is_named(tmp_path):
    with pytest.raises(BadConfig, match=r"embedder\.threads"):
        load_config(written(tmp_path, "embedder:\n  threads: 0\n"))


@pytest.mark.parametrize("text", ["- a\n", "a: [", "catalogue: Ünder-score\n"])
def test_file_that_holds_no_settings_is_refused(tmp_path, text):
    with pytest.raises(BadConfig):
        load_config(written(tmp_path, text))


def test_password_in_a_file_is_refused(tmp_path):
    with pytest.raises(BadConfig, match="SHOPLENS_MILVUS__PASSWORD"):
        load_config(written(tmp_path, "milvus:\n  password: secret\n"))


@pytest.mark.parametrize("name", ["redis_password", "signing_key"])
def test_secret_of_the_store_in_a_file_is_refused(tmp_path, name):
    with pytest.raises(BadConfig, match=f"SHOPLENS_STORE__{name.upper()}"):
        load_config(written(tmp_path, f"store:\n  {name}: secret\n"))


def test_keys_in_a_file_of_settings_are_refused(tmp_path):
    with pytest.raises(BadConfig, match="SHOPLENS_AUTH__KEYS"):
        load_config(written(tmp_path, "auth:\n  keys: app search sha256:123\n"))


def test_keys_are_read_from_the_environment(monkeypatch):
    monkeypatch.setenv("SHOPLENS_AUTH__KEYS", "app search sha256:123\nfeed write sha256:456")
    config = load_config()
    assert config.auth.keys.get_secret_value().splitlines() == ["app search sha256:123", "feed write sha256:456"]
    assert "sha256:" not in repr(config)


def test_address_of_redis_holds_no_password(tmp_path):
    with pytest.raises(BadConfig, match="redis_url"):
        load_config(written(tmp_path, "store:\n  redis_url: redis://:secret@cache:6379/0\n"))


def test_settings_survive_the_way_to_a_replica(monkeypatch):
    monkeypatch.setenv("SHOPLENS_MILVUS__PASSWORD", "secret")
    monkeypatch.setenv("SHOPLENS_STORE__REDIS_PASSWORD", "secret")
    monkeypatch.setenv("SHOPLENS_AUTH__KEYS", "secret")
    config = load_config()
    hidden = {"auth": {"keys"}, "milvus": {"password"}, "store": {"redis_password", "signing_key"}}
    sent = config.model_dump(mode="json", by_alias=True, exclude=hidden)
    assert "secret" not in str(sent)
    assert Config(**sent) == config


def test_data_dir_follows_xdg():
    assert default_data_dir({"XDG_DATA_HOME": "/data"}) == Path("/data/shoplens")


def test_command_line_wins_over_the_environment(monkeypatch):
    monkeypatch.setenv("SHOPLENS_HTTP__PORT", "9000")
    assert at_address(load_config(), None, 9001).http.port == 9001


def test_address_is_checked_like_any_setting():
    assert at_address(load_config(), "localhost", None).http.host == "127.0.0.1"
    with pytest.raises(BadConfig, match="host"):
        at_address(load_config(), "my-laptop", None)
