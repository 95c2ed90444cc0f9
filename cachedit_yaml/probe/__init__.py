"""Small pipelines without weights, made as an adapter's `probe` says, and what they prove."""
