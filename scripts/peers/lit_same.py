"""LitServe around the models and the search of Shoplens.

A LitServe API is one worker process, or several alike, that runs all steps after each other for a batch of requests:
https://lightning.ai/docs/litserve/features/batching. Photos arrive as multipart uploads, which LitServe pickles on
their way to the worker; above 1 MB that fails (https://github.com/Lightning-AI/LitServe/issues/443).
"""

# Without `from __future__ import annotations`: LitServe reads the type of a request.

import os
from typing import Any

import litserve
from fastapi import Request

from scripts.peers import pure


class SearchAPI(litserve.LitAPI):  # type: ignore[misc]
    def setup(self, device: str) -> None:
        self.config = pure.settings()
        self.detector = pure.load_detector(self.config)
        self.embedder = pure.load_embedder(self.config)
        self.search = pure.SearchInThread(self.config)

    def decode_request(self, request: Request) -> bytes:
        photo: bytes = request["photo"].file.read()
        return photo

    def predict(self, x: bytes | list[bytes]) -> dict[str, Any] | list[dict[str, Any]]:
        """Take a photo where there are no batches, else a batch of them."""
        photos = [x] if isinstance(x, bytes) else x
        seen = pure.see(self.detector, photos, self.config)
        answers = self.search.products(seen, pure.embed(self.embedder, [each.crops for each in seen]))
        return answers[0] if isinstance(x, bytes) else answers


if __name__ == "__main__":
    api = SearchAPI(
        max_batch_size=int(os.environ["PEER_BATCH"]),
        # At 0 an idle worker asks its queue without a pause, and takes a core for that (litserve/loops/base.py).
        batch_timeout=float(os.environ["PEER_WAIT_MS"]) / 1e3,
        api_path="/v1/search",
    )
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=int(os.environ["PEER_WORKERS"]))
    server.run(host="127.0.0.1", port=int(os.environ["PEER_PORT"]), generate_client_file=False)
