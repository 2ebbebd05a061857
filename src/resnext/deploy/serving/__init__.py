"""A network behind HTTP: batches across requests, limits on everything that a stranger sends."""
