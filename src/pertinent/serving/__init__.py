"""A bundle over HTTP: scores, reranking, final order. Needs the base install alone."""
