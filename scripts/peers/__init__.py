"""Applications that other frameworks serve, for `scripts.bench_peers`: each file is one and can be read on its own.

`*_same` wrap the models and the search of Shoplens (`pure`), `*_tutorial` are what a user would write by following the
framework's own tutorial, and import nothing of Shoplens. All answer `POST /v1/search` with a multipart field `photo`,
and take what they have to know from variables of the environment whose names begin with PEER_.
"""
