"""Labelling: unlabelled pairs from the log and from BM25 pools -> the teacher's soft labels, in resumable shards."""
