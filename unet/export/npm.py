"""Files of packages from npm, fetched by npm itself (its settings and its cache hold) and checked by their SHA-512."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from unet.errors import RunError, one_line

_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Package:
    """A package of npm. integrity: as npm states it, "sha512-" and the digest of the archive in base64."""

    name: str
    version: str
    integrity: str

    def __str__(self) -> str:
        """As npm takes it."""
        return f"{self.name}@{self.version}"


def fetch(package: Package, *names: str) -> list[bytes]:
    """These files of a package, by their paths in it.

    RunError when there is no npm, when it cannot fetch the package, or when that is another than `integrity` says.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise RunError(f"{package} is fetched by npm, which is not there; install Node.js (https://nodejs.org)")
    with tempfile.TemporaryDirectory(prefix="unet-npm-") as folder:
        command = [npm, "pack", str(package), "--pack-destination", folder, "--silent", "--ignore-scripts"]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RunError(f"npm cannot fetch {package} ({one_line(error)}); check the network") from None
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[0]
            raise RunError(f"npm cannot fetch {package} ({said[:200]}); check the network")
        return _unpacked(package, archives[0], names)


def _unpacked(package: Package, archive: Path, names: tuple[str, ...]) -> list[bytes]:
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if f"sha512-{digest}" != package.integrity:
        raise RunError(f"{package}: what npm fetched has another checksum than the one known here; do not use it")
    with tarfile.open(archive) as tar:
        found = [tar.extractfile(f"package/{name}") for name in names]
        return [file.read() for file in found if file is not None]
