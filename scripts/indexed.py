"""Wait until all rows of a collection are indexed and loaded: rows in memory would be searched one by one."""

from __future__ import annotations

from pymilvus import MilvusClient

from scripts.measuring import wait_until

TIMEOUT_S = 1_800.0


def wait_until_indexed(client: MilvusClient, name: str, rows: int) -> None:
    """Return once every segment is sealed, indexed and loaded, with `rows` rows or more; raises TimeoutError."""

    def is_indexed() -> bool:
        segments = client.list_loaded_segments(name)
        described = client.describe_index(name, "vector")
        return bool(sum(segment.num_rows for segment in segments) >= rows and described["state"] == "Finished")

    wait_until(is_indexed, timeout_s=TIMEOUT_S, what="the index")
