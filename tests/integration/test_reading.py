"""Images and manifests in an object store."""

import subprocess
import sys
from collections.abc import Iterator

import boto3
import httpx
import pytest

from scripts.measuring import free_port, wait_until
from serve_app.catalogue.reading import Bytes, ImageReader, Unreadable, base_of, local_copy
from serve_app.config import Config
from serve_app.errors import BadManifest

MANIFEST = b"image,product_id\n1.jpg,7\n"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """Yield what follows `s3://shop/NAME` to reach a store of this machine that holds a manifest and an image."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: _answers(url), timeout_s=180, what="the store")
        client = boto3.client(
            "s3", endpoint_url=url, aws_access_key_id="key", aws_secret_access_key="secret", region_name="us-east-1"
        )
        client.create_bucket(Bucket="shop")
        client.put_object(Bucket="shop", Key="feed/m.csv", Body=MANIFEST)
        client.put_object(Bucket="shop", Key="feed/a folder/1.jpg", Body=b"pixels")
        yield f"?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
    finally:
        server.kill()
        server.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.HTTPError:
        return False


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


def test_images_are_read_relative_to_their_manifest(store):
    base = base_of(f"s3://shop/feed/m.csv{store}")
    reader = ImageReader(Config(), base)
    found, missing = reader.read(["a folder/1.jpg", "gone.jpg"], {})
    reader.close()
    assert isinstance(found, Bytes)
    assert found.data == b"pixels"
    assert isinstance(missing, Unreadable)
    assert missing.code == "missing_file"


def test_a_manifest_is_copied_before_it_is_read(store, tmp_path):
    copy = local_copy(f"s3://shop/feed/m.csv{store}", tmp_path / "new", Config())
    assert copy.name == "m.csv"
    assert copy.read_bytes() == MANIFEST


def test_a_manifest_that_is_not_there_is_refused(store, tmp_path):
    with pytest.raises(BadManifest, match="can't be read"):
        local_copy(f"s3://shop/feed/gone.csv{store}", tmp_path, Config())
