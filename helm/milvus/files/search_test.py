"""Make a collection, fill it, search in it and drop it: what `helm test` runs."""

from __future__ import annotations

import argparse
import random
import sys
import time
import uuid
from pathlib import Path

from pymilvus import DataType, MilvusClient, MilvusException

DIM = 256
ROWS = 1000
PREFIX = "shoplens_helm_test_"


def main() -> int:
    """Exit with 0 when a search finds what was written, else with 1 and the reason."""
    arguments = _arguments()
    deadline = time.monotonic() + arguments.deadline_s
    collection = PREFIX + uuid.uuid4().hex[:12]
    try:
        client = _connect(arguments, deadline)
        try:
            _search(client, collection, deadline)
        finally:
            # Also where it failed halfway: a test leaves nothing behind.
            client.drop_collection(collection, timeout=60)
    except (MilvusException, OSError, ValueError) as error:
        print(f"search test: {error}", file=sys.stderr)
        return 1
    print("search test: passed")
    return 0


def _search(client: MilvusClient, collection: str, deadline: float) -> None:
    rng = random.Random(7)  # noqa: S311 - rows, not secrets
    vectors = [[rng.gauss(0, 1) for _ in range(DIM)] for _ in range(ROWS)]
    schema = client.create_schema(auto_id=False)
    schema.add_field("image_id", DataType.VARCHAR, is_primary=True, max_length=32)
    schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=DIM)
    client.create_collection(collection, schema=schema, timeout=60)
    client.insert(
        collection,
        [{"image_id": f"{row:032x}", "embedding": vector} for row, vector in enumerate(vectors)],
        timeout=60,
    )
    client.flush(collection, timeout=120)
    index = client.prepare_index_params()
    index.add_index("embedding", index_type="HNSW", metric_type="COSINE", params={"M": 16, "efConstruction": 200})
    client.create_index(collection, index, timeout=300)
    client.load_collection(collection, timeout=300)
    wanted = ROWS // 2
    found: list[str] = []
    while time.monotonic() < deadline:
        hits = client.search(
            collection,
            data=[vectors[wanted]],
            anns_field="embedding",
            limit=10,
            search_params={"params": {"ef": 128}},
            consistency_level="Strong",
            timeout=30,
        )[0]
        found = [hit["image_id"] for hit in hits]
        # For some seconds after a load, answers may be short without an error.
        if len(found) == 10:
            break
        time.sleep(1)
    if len(found) < 10:
        raise ValueError(f"a search for 10 of {ROWS} rows found {len(found)}")
    if found[0] != f"{wanted:032x}":
        raise ValueError("a search by a row's own embedding found another row first")


def _connect(arguments: argparse.Namespace, deadline: float) -> MilvusClient:
    """Return a client as soon as Milvus answers. Raises MilvusException."""
    who = {}
    if arguments.secret:
        who = {"user": "shoplens", "password": (arguments.secret / "password").read_text().strip()}
    tls = {"server_pem_path": arguments.ca} if arguments.ca else {}
    while True:
        try:
            client = MilvusClient(uri=arguments.uri, timeout=10, **who, **tls)
            client.list_collections(timeout=10)
        except MilvusException as error:
            if time.monotonic() > deadline:
                raise
            print(f"waiting for Milvus: {error}", flush=True)
            time.sleep(3)
        else:
            return client


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uri", required=True, help="http://HOST:19530 of Milvus")
    parser.add_argument("--secret", type=Path, help="folder with password, where Milvus asks for one")
    parser.add_argument("--ca", help="file with the authority's certificate, for https")
    parser.add_argument("--deadline-s", type=float, default=600, help="seconds to wait for Milvus")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
