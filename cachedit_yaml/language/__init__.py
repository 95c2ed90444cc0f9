"""The adapter language: what an adapter may say. Never imports torch."""
