"""Which adapters there are, and which one serves a class."""
