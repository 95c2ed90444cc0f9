"""Settings that were measured: trace a generation, score settings on it, check the best, write."""
