"""A small class-conditional DiT with its weights, for showing what an adapter does."""
