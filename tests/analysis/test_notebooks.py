"""The notebooks run as they are stored, on a small sweep, and are stored without outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

PLACES = {
    "best_hyperparameters": 'PLACE = "search"',
    "learning_curves": 'PLACE = "search"',
    "compare_recipes": 'PLACES = ["search", "run"]',
}


def load(root: Path, name: str) -> Any:
    return nbformat.read(root / "analysis" / f"{name}.ipynb", as_version=4)


def test_every_notebook_is_tested(root: Path) -> None:
    assert {path.stem for path in (root / "analysis").glob("*.ipynb")} == set(PLACES)


@pytest.mark.parametrize("name", PLACES)
def test_a_notebook_is_stored_without_outputs_and_its_first_cell_sets_the_path(root: Path, name: str) -> None:
    cells = [cell for cell in load(root, name).cells if cell.cell_type == "code"]
    assert cells[0].source.startswith("PLACE")
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
    assert max(len(cell.source.splitlines()) for cell in cells) <= 10, "what is longer belongs into analysis/"


@pytest.mark.parametrize("name", PLACES)
def test_a_notebook_runs_on_a_small_sweep(root: Path, name: str, searched: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("PYTHONPATH", str(root))
    notebook = load(root, name)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    cells[0].source = PLACES[name]
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(searched)}}).execute()
    outputs = [output.output_type for cell in cells for output in cell.outputs]
    assert "error" not in outputs and outputs.count("display_data") + outputs.count("execute_result") >= 4
    figures = [o for c in cells for o in c.outputs if "application/vnd.plotly.v1+json" in o.get("data", {})]
    assert len(figures) >= 2, "the figures are shown"
