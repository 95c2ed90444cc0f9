"""Doors into the engines: thin, onto the same registry, compiler and runtime."""
