"""Search by image with LitServe, as its documentation shows a server: https://lightning.ai/docs/litserve/home.

Ultralytics finds objects, torchvision's ResNet-50 embeds the three surest and the whole photo, Milvus searches. All
settings of LitServe are its defaults.
"""

import os
from typing import Any

import litserve
import torch
from fastapi import Request
from PIL import Image
from pymilvus import MilvusClient
from safetensors.torch import load_file
from torchvision import models, transforms
from ultralytics import YOLO  # type: ignore[attr-defined]


class ImageSearchAPI(litserve.LitAPI):  # type: ignore[misc]
    def setup(self, device: str) -> None:
        self.detector: Any = YOLO(os.environ["PEER_WEIGHTS"])
        # torchvision's own weights come from the internet; those of a file are as fast.
        self.embedder = models.resnet50()
        self.embedder.load_state_dict(load_file(os.environ["PEER_RESNET"]), strict=False)
        self.embedder.fc = torch.nn.Identity()
        self.embedder.eval().to(device)
        self.transform = transforms.Compose(
            [
                transforms.Resize(256),
                transforms.CenterCrop(224),
                transforms.ToTensor(),
                transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
            ]
        )
        self.milvus = MilvusClient(uri=os.environ["PEER_MILVUS"])
        self.device = device

    def decode_request(self, request: Request) -> Image.Image:
        return Image.open(request["photo"].file).convert("RGB")

    def predict(self, x: Image.Image) -> list[list[dict[str, Any]]]:
        (result,) = self.detector(x)
        crops = [x, *(x.crop(tuple(box)) for box in result.boxes.xyxy.tolist()[:3])]
        with torch.no_grad():
            features = self.embedder(torch.stack([self.transform(crop) for crop in crops]).to(self.device))
        features = torch.nn.functional.normalize(features).cpu().numpy()
        found = self.milvus.search(
            collection_name="tutorial", data=list(features), limit=10, output_fields=["product_id"]
        )
        return [[{"product": hit["entity"]["product_id"], "score": hit["distance"]} for hit in hits] for hits in found]

    def encode_response(self, output: list[list[dict[str, Any]]]) -> dict[str, Any]:
        return {"objects": output}


if __name__ == "__main__":
    server = litserve.LitServer(ImageSearchAPI(api_path="/v1/search"), accelerator="auto")
    server.run(host="127.0.0.1", port=int(os.environ["PEER_PORT"]), generate_client_file=False)
