"""Pertinent: from human relevance judgments to a relevance score that a search engine serves in milliseconds.

The stages are functions from folders to a folder; `pertinent.pipeline.run_pipeline` chains them, and
`pertinent.bundle.open_bundle` opens what they end in. Importing the package loads none of them.
"""
