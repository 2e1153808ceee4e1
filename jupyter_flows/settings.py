"""The few settings of Prefect's that flows ask for: there is no server, so none is set."""


class Setting:
    """A setting that has no value."""

    def value(self) -> None:
        """Return nothing."""


PREFECT_API_URL = Setting()
PREFECT_UI_URL = Setting()
