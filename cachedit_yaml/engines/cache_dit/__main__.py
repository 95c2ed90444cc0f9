"""cache-dit's own command line, with the adapters installed.

``python -m cachedit_yaml.engines.cache_dit list`` takes what ``cache-dit-generate`` takes.
"""

from __future__ import annotations

from cachedit_yaml.engines.cache_dit.register import install


def main() -> None:
    """Install the adapters, and hand over to ``cache-dit-generate``."""
    install()
    from cache_dit.generate import entrypoint

    entrypoint()


if __name__ == "__main__":
    main()
