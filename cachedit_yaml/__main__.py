"""``python -m cachedit_yaml`` is ``cachedit-yaml``."""

from __future__ import annotations

from cachedit_yaml.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
