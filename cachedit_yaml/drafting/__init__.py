"""Adapters written from what a run shows: watch a call, and say how its transformers are cached."""
