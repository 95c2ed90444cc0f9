"""Golden files: what `validate` prints for a file that is wrong in one way, and for good ones."""
