"""Search by image with Ray Serve, after its tutorial of object detection and its guide to batches.

https://docs.ray.io/en/latest/serve/tutorials/object-detection.html. Ultralytics finds objects, torchvision's ResNet-50
embeds the three surest and the whole photo, Milvus searches. All settings of Ray Serve are its defaults.
"""

import io
import os
from typing import Any

import ray
import torch
from fastapi import FastAPI, UploadFile
from PIL import Image
from pymilvus import MilvusClient
from ray import serve
from safetensors.torch import load_file
from torchvision import models, transforms
from ultralytics import YOLO  # type: ignore[attr-defined]

app = FastAPI()


@serve.deployment
class ObjectDetection:
    def __init__(self) -> None:
        self.model: Any = YOLO(os.environ["PEER_WEIGHTS"])

    @serve.batch
    async def detect(self, images: list[Image.Image]) -> list[list[list[float]]]:
        return [result.boxes.xyxy.tolist() for result in self.model(images)]


@serve.deployment
class Embedding:
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

    @serve.batch
    async def embed(self, photos: list[list[Image.Image]]) -> list[Any]:
        crops = [crop for photo in photos for crop in photo]
        with torch.no_grad():
            features = self.model(torch.stack([self.transform(crop) for crop in crops]))
        rows = torch.split(torch.nn.functional.normalize(features), [len(photo) for photo in photos])
        return [each.numpy() for each in rows]


@serve.deployment
@serve.ingress(app)
class APIIngress:
    def __init__(self, detector: Any, embedder: Any) -> None:
        self.detector, self.embedder = detector, embedder
        self.milvus = MilvusClient(uri=os.environ["PEER_MILVUS"])

    @app.post("/v1/search")
    async def search(self, photo: UploadFile) -> dict[str, Any]:
        image = Image.open(io.BytesIO(await photo.read())).convert("RGB")
        boxes = await self.detector.detect.remote(image)
        features = await self.embedder.embed.remote([image, *(image.crop(tuple(box)) for box in boxes[:3])])
        found = self.milvus.search(
            collection_name="tutorial", data=list(features), limit=10, output_fields=["product_id"]
        )
        return {
            "objects": [
                [{"product": hit["entity"]["product_id"], "score": hit["distance"]} for hit in hits] for hits in found
            ]
        }


if __name__ == "__main__":
    # Each deployment asks for one CPU by default, and there may be fewer than three here.
    ray.init("local", num_cpus=4, include_dashboard=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PEER_PORT"])})
    application = APIIngress.bind(ObjectDetection.bind(), Embedding.bind())  # type: ignore[attr-defined]
    serve.run(application, name="tutorial", blocking=True)
