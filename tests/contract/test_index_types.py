"""Each kind of index is made where the engine has it, and scores are exact cosines on all of them."""

import numpy as np
import pytest

from serve_app.config import SearchParams
from serve_app.errors import BadConfig
from serve_app.milvus import indexing
from serve_app.milvus.searcher import MilvusSearcher
from tests.contract.engines import FINGERPRINT, NOW, Engine, Index, eventually
from tests.contract.rows import embeddings, row

MADE = [
    ("lite", "FLAT"),
    ("lite", "HNSW"),
    ("lite", "HNSW_SQ"),
    ("lite", "IVF_SQ8"),
    ("server", "FLAT"),
    ("server", "HNSW"),
    ("server", "IVF_SQ8"),
    ("server", "DISKANN"),
]
REFUSED = [
    ("lite", "IVF_RABITQ", "Milvus Lite has no IVF_RABITQ"),
    ("lite", "DISKANN", "Milvus Lite has no DISKANN"),
    ("lite", "GPU_CAGRA", "Milvus Lite has no GPU_CAGRA"),
    ("server", "HNSW_SQ", "HNSW_SQ needs Milvus 2.5; this is 2.3.5"),
    ("server", "IVF_RABITQ", "IVF_RABITQ needs Milvus 2.6; this is 2.3.5"),
    ("server", "GPU_CAGRA", "GPU_CAGRA needs Milvus 2.4; this is 2.3.5"),
]
ROWS = [row(f"typed-{number}") for number in range(1_200)]


@pytest.mark.parametrize(("name", "index_type"), MADE)
async def test_scores_are_exact_on_every_kind(request: pytest.FixtureRequest, name: str, index_type: str) -> None:
    engine: Engine = request.getfixturevalue(name)
    config = engine.config.model_copy(update={"index_type": index_type, "ivf_nlist": 16})
    catalogue = f"type_{index_type.lower()}"
    collection = indexing.ensure(engine.client, config, catalogue, FINGERPRINT, NOW)
    index = Index(engine, catalogue)
    index.writer().write(ROWS)
    # Sealed, so that the index itself answers and not the rows in memory.
    index.writer().flush()
    assert indexing.index_type_of(engine.client, collection) == index_type
    searcher = MilvusSearcher([engine.uri], config, index.alias, SearchParams(nprobe=16))

    async def finds_all() -> bool:
        answers = (await searcher.search(np.stack([row.vector for row in ROWS[:50]]), 1)).hits
        return [hit.row_id for hits in answers for hit in hits] == [row.row_id for row in ROWS[:50]]

    await eventually(finds_all)
    queries = embeddings(4, seed=20)
    vectors = {row.row_id: row.vector for row in ROWS}
    for query, hits in zip(queries, (await searcher.search(queries, 10)).hits, strict=True):
        assert [hit.score for hit in hits] == pytest.approx(
            [float(query @ vectors[hit.row_id]) for hit in hits], abs=1e-5
        )
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    await searcher.close()
    index.client.drop_alias(index.alias)
    index.client.drop_collection(collection)


@pytest.mark.parametrize(("name", "index_type", "message"), REFUSED)
def test_what_an_engine_lacks_is_refused(
    request: pytest.FixtureRequest, name: str, index_type: str, message: str
) -> None:
    engine: Engine = request.getfixturevalue(name)
    config = engine.config.model_copy(update={"index_type": index_type})
    with pytest.raises(BadConfig, match=message):
        indexing.ensure(engine.client, config, "refused", FINGERPRINT, NOW)
    assert indexing.resolve(engine.client, f"refused_{FINGERPRINT}") is None
    assert not [name for name in engine.client.list_collections() if name.startswith("refused")]


def test_what_the_server_itself_refuses_leaves_nothing_behind(server: Engine) -> None:
    config = server.config.model_copy(update={"index_type": "IVF_SQ8", "ivf_nlist": 10**9})
    with pytest.raises(BadConfig, match="Milvus can't make IVF_SQ8"):
        indexing.ensure(server.client, config, "refused", FINGERPRINT, NOW)
    assert not [name for name in server.client.list_collections() if name.startswith("refused")]
