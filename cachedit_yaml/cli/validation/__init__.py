"""The validator: adapters and engine configs, checked without torch (but with ``--deep``)."""
