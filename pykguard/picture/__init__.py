"""What a picture of a loss history shows, for Matplotlib and for R to draw."""

from pykguard.picture._parts import Columns, Picture, to_plot

__all__ = ["Columns", "Picture", "to_plot"]
