"""The page, its workers, and the host that serves them with model bundles."""
