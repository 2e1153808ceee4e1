"""Names that Prefect's users import from ``prefect.utilities``."""
