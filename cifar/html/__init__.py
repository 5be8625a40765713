"""What pages share: the style sheet with their colours and texts. Imports no torch."""

from __future__ import annotations

from pathlib import Path

STYLE = (Path(__file__).parent / "style.css").read_text("utf-8")
"""Light and dark, on a screen by the user's choice; a page puts its own rules after these."""
