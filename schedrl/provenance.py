"""Where a result comes from: hashes of definitions, hardware, versions of the software, git revision."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from schedrl.errors import SchedrlError


def provenance(device: str = "cpu") -> dict[str, Any]:
    """The fields of a result line that say where, with what and when it was made.

    Args:
        device: Torch device of the networks.
    """
    return {
        "versions": software(),
        "hardware": hardware(device),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": revision(),
    }


def content_hash(content: object) -> str:
    """The first 16 hexadecimal digits of SHA-256 over plain data as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def hardware(device: str) -> str:
    """The processor or GPU behind a torch device, for people."""
    if not device.startswith("cpu"):
        import torch

        return str(torch.cuda.get_device_name(device)) if device.startswith("cuda") else device
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            name = next(
                (line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), name
            )
    except OSError:
        pass  # not Linux
    return f"{name}, {os.cpu_count()} cores"


def require_memory(needed: float, what: str, way_out: str) -> None:
    """Raise, before any work, if the free main memory (Linux's MemAvailable) cannot hold ``needed`` bytes."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            (line,) = (line for line in file if line.startswith("MemAvailable:"))
    except (OSError, ValueError):
        return  # not Linux
    free = 1024.0 * float(line.split()[1])
    if needed > free:
        raise SchedrlError(
            f"{what} need {needed / 2**30:.3g} GiB, and {free / 2**30:.3g} GiB are free; {way_out}"
        )


def software() -> dict[str, str]:
    """Versions of what decides results, Python among them."""
    return {**versions(), "python": platform.python_version()}


def versions() -> dict[str, str]:
    """Versions of the packages that decide results."""
    return {name: version(name) for name in ("schedrl", "gymnasium", "numpy", "stable-baselines3", "torch")}


_PACKAGE = Path(__file__).resolve().parent


@cache
def revision(package: Path = _PACKAGE) -> str:
    """Git revision of a package's checkout, ``-dirty`` when files that git knows were changed; else empty.

    Args:
        package: Folder of the package; the checkout is the folder around it.
    """
    checkout = package.parent

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(checkout), *words], capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout.strip()

    try:
        # An installed package may lie in a repository that is not its own.
        if Path(git("rev-parse", "--show-toplevel")) != checkout:
            return ""
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return ""
