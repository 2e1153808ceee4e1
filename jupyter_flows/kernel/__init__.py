"""The part that lives in the notebook's kernel."""
