"""Doors into the engines. Each is thin: what it opens is the same registry, compiler and runtime."""
