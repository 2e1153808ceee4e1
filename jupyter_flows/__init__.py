"""Flows and tasks in the background of a notebook."""

__version__ = "0.1.0"
