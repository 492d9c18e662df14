"""The index, in Milvus Lite or on a Milvus server."""
