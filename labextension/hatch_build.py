"""Builds the front end with npm whenever hatchling builds the package from a source checkout.

An sdist carries the built files and is installed without Node: it is told by its PKG-INFO.
"""

import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class FrontEndHook(BuildHookInterface[Any]):
    """Run `npm install` and `npm run build` in `labextension/`.

    The versions are those of the lock file, which `--no-save` leaves alone. It is not `npm ci`
    because that wants every platform's binaries in the lock file, and a registry mirror may
    hold this platform's only.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        if (root / "PKG-INFO").exists():
            return
        npm = shutil.which("npm")
        if npm is None:
            raise RuntimeError(
                "Building jupyter_flows from its sources needs Node.js 20.19 or later with npm. "
                "Install it, or install a released wheel: pip install jupyter_flows"
            )
        for arguments in (["install", "--no-save"], ["run", "build"]):
            subprocess.run([npm, *arguments], cwd=root / "labextension", check=True)
