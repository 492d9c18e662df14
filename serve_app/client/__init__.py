# Copyright 2026 The Shoplens authors
# SPDX-License-Identifier: Apache-2.0
#
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0, or in
# LICENSES/Apache-2.0.txt of this project.
#
# Unless required by applicable law or agreed to in writing, software distributed under the License is distributed on
# an "AS IS" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the
# specific language governing permissions and limitations under the License.
"""Typed HTTP client of Shoplens, for programs that search or keep its products.

    with Client("https://search.example.com", key="shoplens_…") as client:
        answer = client.search(photo, top_k=5)
        for found in answer.objects:
            for product in found.products or ():
                print(product.product_id, product.score)

`AsyncClient` has the same calls to be awaited. This package needs httpx and pydantic, and nothing else of Shoplens.
"""

from __future__ import annotations

from serve_app.client.attempts import NoAnswer, Problem, Retries
from serve_app.client.awaited import AsyncClient
from serve_app.client.shapes import (
    Answer,
    BatchAnswer,
    Box,
    Change,
    Count,
    Facets,
    Feedback,
    FeedbackTaken,
    Found,
    ImageToStore,
    Index,
    Money,
    Photo,
    Price,
    PriceCount,
    PriceFacet,
    Product,
    ProductAnswer,
    ProductToDelete,
    ProductToStore,
    Similar,
    StoredImage,
    StoredProduct,
    Told,
)
from serve_app.client.sync import Client

__all__ = [
    "Answer",
    "AsyncClient",
    "BatchAnswer",
    "Box",
    "Change",
    "Client",
    "Count",
    "Facets",
    "Feedback",
    "FeedbackTaken",
    "Found",
    "ImageToStore",
    "Index",
    "Money",
    "NoAnswer",
    "Photo",
    "Price",
    "PriceCount",
    "PriceFacet",
    "Problem",
    "Product",
    "ProductAnswer",
    "ProductToDelete",
    "ProductToStore",
    "Retries",
    "Similar",
    "StoredImage",
    "StoredProduct",
    "Told",
]
