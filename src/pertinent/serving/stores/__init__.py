"""Where the items' rows come from: the bundle's own files, a journal of changes laid over them, or Redis."""

from pertinent.serving.stores.store import READ_ONLY, Found, ItemStore, StoreError, check_store, open_store

__all__ = ["READ_ONLY", "Found", "ItemStore", "StoreError", "check_store", "open_store"]
