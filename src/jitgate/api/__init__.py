"""Transport: the JSON API. FastAPI lives here and nowhere else; every route calls one act of `flow/`."""
