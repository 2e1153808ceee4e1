"""Prefect's place for marks on arguments."""

from jupyter_flows.annotations import allow_failure, quote, unmapped

__all__ = ["allow_failure", "quote", "unmapped"]
