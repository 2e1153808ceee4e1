"""The Jupyter server's part: past and present runs over REST, read from the store."""
