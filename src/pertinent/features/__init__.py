"""Features of a (query, item) pair, one code path offline and online. NumPy, Polars, tokenizers and onnxruntime; no torch."""
