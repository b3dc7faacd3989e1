"""The index of a library on a Milvus server."""
