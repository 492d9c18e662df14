"""Write the index that the tutorials search: one row of 2,048 numbers for each image given as an argument."""

import os
import sys
from pathlib import Path

import torch
from PIL import Image
from pymilvus import MilvusClient
from safetensors.torch import load_file
from torchvision import models, transforms

if __name__ == "__main__":
    model = models.resnet50()
    model.load_state_dict(load_file(os.environ["PEER_RESNET"]), strict=False)
    model.fc = torch.nn.Identity()
    model.eval()
    transform = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
        ]
    )
    milvus = MilvusClient(uri=os.environ["PEER_MILVUS"])
    if milvus.has_collection("tutorial"):
        milvus.drop_collection("tutorial")
    milvus.create_collection("tutorial", dimension=2048, metric_type="IP", auto_id=True)
    for path in map(Path, sys.argv[1:]):
        with torch.no_grad():
            feature = model(transform(Image.open(path).convert("RGB"))[None])[0]
        vector = torch.nn.functional.normalize(feature, dim=0).tolist()
        milvus.insert("tutorial", [{"vector": vector, "product_id": path.stem}])
