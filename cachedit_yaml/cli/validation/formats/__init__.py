"""One module per way to print what the validator found."""
