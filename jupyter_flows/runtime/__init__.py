"""What a run is, asked from its code: Prefect's ``runtime``.

from jupyter_flows import runtime
runtime.flow_run.name
runtime.task_run.parameters

Outside of runs each gives nothing: None, or an empty collection. So it may be asked by
a function that makes the names of runs, too.
"""

from jupyter_flows.runtime import flow_run, task_run

__all__ = ["flow_run", "task_run"]
