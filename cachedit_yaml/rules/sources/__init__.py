"""Classes read from their sources: what they hold, take and return. Nothing is imported or run."""
