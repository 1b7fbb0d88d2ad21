"""Features of a (query, item) pair, one code path offline and online. NumPy and tokenizers only."""
