"""Title and description of the page that an item links to, from saved pages."""

from pertinent.links.build import link_inputs, read_links
from pertinent.links.config import LinksConfig

__all__ = ["LinksConfig", "link_inputs", "read_links"]
