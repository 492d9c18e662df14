"""Make a collection, fill it, search in it and drop it: what `helm test` runs."""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
import uuid

from connecting import connect, parser, secret
from grpc import RpcError
from pymilvus import DataType, MilvusClient, MilvusException

DIM = 256
ROWS = 1000
PREFIX = "shoplens_helm_test_"


def main() -> int:
    """Exit with 0 when a search finds what was written, else with 1 and the reason."""
    # It logs a traceback for each refusal; what matters is printed here.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    arguments = parser(str(__doc__)).parse_args()
    deadline = time.monotonic() + arguments.deadline_s
    collection = PREFIX + uuid.uuid4().hex[:12]
    try:
        client = _sign_in(arguments, deadline)
        try:
            _search(client, collection, deadline)
        finally:
            # Also where it failed halfway: a test leaves nothing behind.
            client.drop_collection(collection, timeout=60)
    except (MilvusException, RpcError, OSError, ValueError) as error:
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
        found = [hit.id for hit in hits]
        # For some seconds after a load, answers may be short without an error.
        if len(found) == 10:
            break
        time.sleep(1)
    if len(found) < 10:
        raise ValueError(f"a search for 10 of {ROWS} rows found {len(found)}")
    if found[0] != f"{wanted:032x}":
        raise ValueError("a search by a row's own embedding found another row first")


def _sign_in(arguments: argparse.Namespace, deadline: float) -> MilvusClient:
    """Return a client of the user that Shoplens searches as. Raises ValueError."""
    user, password = ("shoplens", secret(arguments.secret, "password")) if arguments.secret else ("", "")
    client = connect(arguments, user, password, deadline)
    if client is None:
        raise ValueError("Milvus refuses the Secret's password of shoplens")
    return client


if __name__ == "__main__":
    raise SystemExit(main())
