"""What needs the site: ``make site`` builds it and runs these."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("zensical") else ["test_*.py"]
