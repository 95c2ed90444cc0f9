"""diffusers: load a pipeline and cache it, and which of its pipelines hold a transformer."""
