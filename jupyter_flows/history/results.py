"""Results of cached task runs: files in a folder beside the store.

- The folder is the user's alone, as what is in it will be unpickled: mode 0700, and one
  that another could write to is not used.
- An entry is one file, put in place in one step: a reader finds a whole one or none, and
  of several writers of a key the last one's stays. No lock is needed.
- An entry that is damaged, or whose time is over, is none; it is removed when it is met.
- What nobody has asked for in `keep_seconds` is removed, at most once an hour.

Any thread may call any method.
"""

import hashlib
import math
import os
import stat
import struct
import time as clock
import zlib
from pathlib import Path
from tempfile import NamedTemporaryFile

from jupyter_flows.errors import StoreUnavailable

KEEP_SECONDS = 30 * 86_400.0  # as long as past runs
_SWEEP_SECONDS = 3_600.0
_LEFT_BEHIND = 86_400.0  # seconds until a file that was never put in place is nobody's

_HEAD = struct.Struct("<8sdI")  # what it is, when it expires, the checksum of the rest
_MAGIC = b"JFLWres1"


class ResultFiles:
    """The kept results in one folder."""

    def __init__(self, folder: Path | str, *, keep_seconds: float = KEEP_SECONDS) -> None:
        self.folder = Path(folder)
        self._keep_seconds = keep_seconds
        self._swept_at = -math.inf

    def load(self, key: str) -> bytes | None:
        """Return what is kept under a key, or None.

        Raises:
            StoreUnavailable: it is damaged, and is so no more; or the folder cannot be used.
        """
        path = self._path(key)
        try:
            if not self.folder.exists():
                return None
            self._check_private()
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unavailable(error) from error
        whole = len(data) >= _HEAD.size
        magic, expires, checksum = _HEAD.unpack_from(data) if whole else (b"", 0.0, 0)
        body = memoryview(data)[_HEAD.size :]
        if magic != _MAGIC or zlib.crc32(body) != checksum:
            _remove(path)
            raise StoreUnavailable(f"The kept result {path} is damaged, and was removed.")
        if expires <= clock.time():
            _remove(path)
            return None
        try:
            os.utime(path)  # it was asked for
        except OSError:
            pass
        return bytes(body)

    def keep(self, key: str, data: bytes, seconds: float | None = None) -> None:
        """Keep something under a key, for so many seconds, or until nobody asks for it.

        Raises:
            StoreUnavailable: it cannot be written; what was there before stays.
        """
        expires = math.inf if seconds is None else clock.time() + seconds
        try:
            self.folder.parent.parent.mkdir(parents=True, exist_ok=True)
            for folder in (self.folder.parent, self.folder):
                folder.mkdir(mode=0o700, exist_ok=True)
            self._check_private()
            with NamedTemporaryFile(dir=self.folder, suffix=".new", delete=False) as file:
                try:
                    file.write(_HEAD.pack(_MAGIC, expires, zlib.crc32(data)))
                    file.write(data)
                    file.close()
                    os.replace(file.name, self._path(key))
                except BaseException:
                    file.close()
                    _remove(Path(file.name))
                    raise
        except OSError as error:
            raise self._unavailable(error) from error
        self._sweep()

    def _path(self, key: str) -> Path:
        return self.folder / hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()

    def _check_private(self) -> None:
        if not hasattr(os, "getuid"):
            return
        found = self.folder.stat()
        if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o022:
            raise StoreUnavailable(
                f"The folder of kept results {self.folder} is open to others, who could have code "
                "run here: make it yours alone (chmod 700), or set JUPYTER_FLOWS_STORE."
            )

    def _unavailable(self, error: OSError) -> StoreUnavailable:
        said = error.strerror or type(error).__name__
        return StoreUnavailable(
            f"The folder of kept results {self.folder} cannot be used ({said}). Make it writable, "
            "or set JUPYTER_FLOWS_STORE."
        )

    def _sweep(self) -> None:
        """Remove what has expired, what nobody asks for, and what was left behind."""
        if clock.monotonic() - self._swept_at < _SWEEP_SECONDS:
            return
        self._swept_at = clock.monotonic()
        now = clock.time()
        try:
            for entry in os.scandir(self.folder):
                unused = now - entry.stat().st_mtime
                limit = _LEFT_BEHIND if entry.name.endswith(".new") else self._keep_seconds
                if unused > limit or _expires(entry.path) <= now:
                    _remove(Path(entry.path))
        except OSError:  # another process sweeps too
            return


def default_folder() -> Path:
    """Return the folder beside the user's own store."""
    from jupyter_flows.history.store import default_path

    return folder_beside(default_path())


def folder_beside(store: Path | str) -> Path:
    """Return the folder that belongs to a store."""
    return Path(store).with_suffix(".results")


def _expires(path: str) -> float:
    with open(path, "rb") as file:
        head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return math.inf  # it is being written, or damaged, which is told when it is asked for
    expires: float = _HEAD.unpack(head)[1]
    return expires


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # it is of no use all the same
        pass
