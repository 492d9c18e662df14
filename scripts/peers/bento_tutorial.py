"""Search by image with BentoML, after its example of YOLO: https://github.com/bentoml/BentoYolo.

Ultralytics finds objects, torchvision's ResNet-50 embeds the three surest and the whole photo, Milvus searches. All
settings of BentoML are its defaults. `bentoml serve scripts.peers.bento_tutorial:ImageSearch`.
"""

import os
from typing import Any

import bentoml
import torch
from PIL import Image
from PIL.Image import Image as PILImage
from pymilvus import MilvusClient
from safetensors.torch import load_file
from torchvision import models, transforms
from ultralytics import YOLO  # type: ignore[attr-defined]


@bentoml.service
class YoloService:
    def __init__(self) -> None:
        self.model: Any = YOLO(os.environ["PEER_WEIGHTS"])

    @bentoml.api(batchable=True)  # type: ignore[untyped-decorator]
    def predict(self, images: list[PILImage]) -> list[Any]:
        return [result.boxes.xyxy.tolist() for result in self.model.predict(source=images)]


@bentoml.service
class ResNetService:
    def __init__(self) -> None:
        # torchvision's own weights come from the internet; those of a file are as fast.
        self.model = models.resnet50()
        self.model.load_state_dict(load_file(os.environ["PEER_RESNET"]), strict=False)
        self.model.fc = torch.nn.Identity()
        self.model.eval()
        self.transform = transforms.Compose(
            [
                transforms.Resize(256),
                transforms.CenterCrop(224),
                transforms.ToTensor(),
                transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
            ]
        )

    @bentoml.api(batchable=True)  # type: ignore[untyped-decorator]
    def embed(self, images: list[PILImage]) -> list[list[float]]:
        with torch.no_grad():
            features = self.model(torch.stack([self.transform(image) for image in images]))
        rows: list[list[float]] = torch.nn.functional.normalize(features).tolist()
        return rows


@bentoml.service
class ImageSearch:
    yolo = bentoml.depends(YoloService)
    resnet = bentoml.depends(ResNetService)

    def __init__(self) -> None:
        self.milvus = MilvusClient(uri=os.environ["PEER_MILVUS"])

    @bentoml.api(route="/v1/search")  # type: ignore[untyped-decorator]
    def predict(self, photo: PILImage) -> dict[str, Any]:
        image: Image.Image = photo.convert("RGB")
        boxes = self.yolo.predict([image])[0]
        features = self.resnet.embed([image, *(image.crop(tuple(box)) for box in boxes[:3])])
        found = self.milvus.search(
            collection_name="tutorial", data=list(features), limit=10, output_fields=["product_id"]
        )
        return {
            "objects": [
                [{"product": hit["entity"]["product_id"], "score": hit["distance"]} for hit in hits] for hits in found
            ]
        }
