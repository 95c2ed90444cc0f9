"""What needs tools of others, from npm too: ``make test-tools`` has them."""

from __future__ import annotations

import shutil

TOOLS = ("yaml-language-server", "pre-commit", "twine", "zizmor")

collect_ignore_glob = [] if all(map(shutil.which, TOOLS)) else ["test_*.py"]
