"""Figures that need no kernel: lossless image panels and tables as HTML, plots in plotly.

Every image of a row is seen through one grey window, every error map is zero-centred, every figure
carries a text for readers who cannot see it. Functions take arrays and
return a displayable object; no model, no operator.
"""

import os

from instab_utils.figures.images import panels
from instab_utils.figures.page import Html, table
from instab_utils.figures.plots import bars, curves, register_book_renderer, scatter

__all__ = ["Html", "bars", "curves", "panels", "register_book_renderer", "scatter", "table"]

if os.environ.get("INSTAB_BOOK"):
    register_book_renderer()
