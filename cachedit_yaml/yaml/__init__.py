"""YAML as text with positions; knows nothing of adapters."""
