"""cache-dit itself: adapters in its own table, and its config files."""
