"""Reverse image search as the Milvus bootcamp has it: the whole photo, ResNet-50, 2,048 numbers, one at a time.

https://github.com/milvus-io/bootcamp, solutions/image/reverse_image_search/server. The photo is saved, read, embedded
and searched within an `async` route, as there. Towhee's timm model is torchvision's here, the same network, and MySQL
is left out: the row itself holds the product.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

import cv2
import torch
import uvicorn
from fastapi import FastAPI, File, Form, UploadFile
from pymilvus import MilvusClient
from safetensors.torch import load_file
from starlette.middleware.cors import CORSMiddleware
from torchvision import models, transforms

UPLOAD_PATH = Path(tempfile.mkdtemp(prefix="search-images-"))

app = FastAPI()
app.add_middleware(
    CORSMiddleware, allow_origins=["*"], allow_credentials=True, allow_methods=["*"], allow_headers=["*"]
)


class Resnet50:
    def __init__(self) -> None:
        self.model = models.resnet50()
        self.model.load_state_dict(load_file(os.environ["PEER_RESNET"]), strict=False)
        self.model.fc = torch.nn.Identity()
        self.model.eval()
        self.transform = transforms.Compose(
            [
                transforms.ToPILImage(),
                transforms.Resize(256),
                transforms.CenterCrop(224),
                transforms.ToTensor(),
                transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
            ]
        )

    def resnet50_extract_feat(self, path: str) -> Any:
        read: Any = cv2.imread(path)
        image = cv2.cvtColor(read, cv2.COLOR_BGR2RGB)
        with torch.no_grad():
            feature = self.model(self.transform(image)[None])[0].numpy()
        return feature / (feature @ feature) ** 0.5


MODEL = Resnet50()
MILVUS_CLI = MilvusClient(uri=os.environ["PEER_MILVUS"])


@app.post("/v1/search")
async def search_images(photo: UploadFile = File(), topk: int = Form(10)) -> list[tuple[str, float]]:  # noqa: B008
    content = await photo.read()
    path = UPLOAD_PATH / (photo.filename or "photo.jpg")
    path.write_bytes(content)
    feature = MODEL.resnet50_extract_feat(str(path))
    (hits,) = MILVUS_CLI.search(collection_name="tutorial", data=[feature], limit=topk, output_fields=["product_id"])
    found = {hit["entity"]["product_id"]: hit["distance"] for hit in hits}
    return sorted(found.items(), key=lambda item: item[1])


if __name__ == "__main__":
    uvicorn.run(app=app, host="127.0.0.1", port=int(os.environ["PEER_PORT"]))
