"""Shoplens: search by image for shops."""

__version__ = "0.1.0"
