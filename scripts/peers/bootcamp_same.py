"""The flow of the Milvus bootcamp around the models and the search of Shoplens.

FastAPI, one process, and an `async` route that computes in the event loop: one photo at a time, no batches.
https://github.com/milvus-io/bootcamp, solutions/image/reverse_image_search/server.
"""

from __future__ import annotations

import os
from typing import Any

import uvicorn
from fastapi import FastAPI, UploadFile

from scripts.peers import pure

app = FastAPI()
config = pure.settings()
detector = pure.load_detector(config)
embedder = pure.load_embedder(config)
search = pure.SearchInThread(config)


@app.post("/v1/search")
async def search_images(photo: UploadFile) -> dict[str, Any]:
    seen = pure.see(detector, [await photo.read()], config)
    (answer,) = search.products(seen, pure.embed(embedder, [each.crops for each in seen]))
    return answer


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PEER_PORT"]))
