"""As for the runtime: what an adapter says by itself."""

from tests.runtime.conftest import without_defaults  # noqa: F401
