"""The chain of stages: each a function from folders to a folder, with a manifest, skipped or continued as it can be."""

from pertinent.pipeline.config import RunConfig, load_run_config
from pertinent.pipeline.run import STAGES, run_pipeline

__all__ = ["STAGES", "RunConfig", "load_run_config", "run_pipeline"]
