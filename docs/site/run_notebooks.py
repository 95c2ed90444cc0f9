"""``make notebooks``: run the notebooks of docs/ and keep what they print and draw."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import nbformat
from nbclient import NotebookClient

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # of the kernels: small tensors gain nothing from more
DOCS: Final = Path(__file__).resolve().parents[1]


def run(path: Path) -> Any:
    """Run a notebook in a process of its own, in the folder where it lies.

    Returns:
        The notebook with its outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised.
    """
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, resources=where, record_timing=False, coalesce_streams=True).execute()
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            # Libraries' remarks and bars on stderr are not for readers.
            cell.outputs = [item for item in cell.outputs if item.get("name") != "stderr"]
            for item in cell.outputs:
                item.get("data", {}).pop("image/jpeg", None)
    return notebook


def main() -> None:
    """Run all of them."""
    for path in sorted(DOCS.glob("*.ipynb")):
        nbformat.write(run(path), path)
        print(f"ran {path.name}")


if __name__ == "__main__":
    main()
