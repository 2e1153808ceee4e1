"""What is kept of runs: one SQLite file per user, its readers and its batching writer.

Knows records, states and errors, and nothing of the engine or of Jupyter's
front ends: whoever runs flows feeds a `Writer`, whoever shows past runs reads a
`Store`.
"""

from jupyter_flows.history.leases import Leases
from jupyter_flows.history.store import Store, StoredLines, default_path
from jupyter_flows.history.writer import Writer

__all__ = ["Leases", "Store", "StoredLines", "Writer", "default_path"]
