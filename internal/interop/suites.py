#!/usr/bin/python3 -B
"""Fetches the client libraries' own integration tests into a folder: slixmpp's from its release on the Python index, with that release itself in
an environment of its own, aioxmpp's from Debian's source package. Quick when they are there."""

import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.parse
import urllib.request
from pathlib import Path

from pip._internal.configuration import Configuration
from pip._internal.models.index import PyPI

SLIXMPP = "slixmpp-1.10.0"  # the first release that carries its integration tests
ENVIRONMENT = "slixmpp==1.10.0", "aiodns==4.0.4", "pycares==5.2.1", "pyasn1==0.6.5", "pyasn1_modules==0.4.2", "cffi==2.1.1", "pycparser==3.12"
AIOXMPP = "python-aioxmpp"  # the source package of Debian's aioxmpp


def fetch(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, get in ("slixmpp", _slixmpp), ("aioxmpp", _aioxmpp):
        if (folder / name).exists():
            continue
        print(f"interop: fetching the tests of {name}", flush=True)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            shutil.move(get(Path(work)), folder / name)
    environment = folder / "environment"
    if not (environment / "complete").exists():
        print("interop: installing the slixmpp of its tests", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True)
        subprocess.run([environment / "bin" / "pip", "install", "-q", *ENVIRONMENT], check=True)
        (environment / "complete").touch()


def _slixmpp(work: Path) -> Path:
    settings = Configuration(isolated=False)
    settings.load()
    index = dict(settings.items()).get("global.index-url", PyPI.simple_url).rstrip("/") + "/slixmpp/"
    page = urllib.request.urlopen(index, timeout=60).read().decode()
    link = re.search(rf'href="([^"#]*/{SLIXMPP}\.tar\.gz)', page)
    if not link:
        sys.exit(f"interop: the Python index has no {SLIXMPP}")
    archive = work / "slixmpp.tar.gz"
    archive.write_bytes(urllib.request.urlopen(urllib.parse.urljoin(index, link.group(1)), timeout=60).read())
    _unpack(archive, work, f"{SLIXMPP}/itests/")
    return work / SLIXMPP / "itests"


def _aioxmpp(work: Path) -> Path:
    (work / "lists" / "partial").mkdir(parents=True)
    (work / "sources.list").write_text(_source_line())
    options = ["-qq", "-o", f"Dir::Etc::sourcelist={work}/sources.list", "-o", "Dir::Etc::sourceparts=-",
               "-o", f"Dir::State::lists={work}/lists", "-o", "APT::Sandbox::User=root"]
    subprocess.run(["apt-get", *options, "update"], check=True, stdout=subprocess.DEVNULL)
    # Of the package only the upstream archive is needed; a mirror that lacks the rest does no harm.
    subprocess.run(["apt-get", *options, "source", "--download-only", AIOXMPP], cwd=work, capture_output=True)
    archive = next(iter(work.glob("*.orig.tar.*")), None)
    if archive is None:
        sys.exit(f"interop: Debian's source of {AIOXMPP} could not be fetched")
    _unpack(archive, work, "tests/")
    return work / "tests"


def _source_line() -> str:
    """Debian's own archive as this machine has it configured, for sources."""
    release = re.search(r'VERSION_CODENAME=(\S+)', Path("/etc/os-release").read_text()).group(1)
    for path in [*Path("/etc/apt/sources.list.d").glob("*.sources"), *Path("/etc/apt/sources.list.d").glob("*.list"), Path("/etc/apt/sources.list")]:
        text = path.read_text() if path.exists() else ""
        found = re.search(r"^URIs:\s*(\S+/debian/?)\s*$", text, re.M) or re.search(rf"^deb\s+(?:\[.*\]\s+)?(\S+/debian/?)\s+{release}\s", text, re.M)
        if found:
            return f"deb-src {found.group(1)} {release} main\n"
    sys.exit("interop: no Debian archive is configured in /etc/apt")


def _unpack(archive: Path, to: Path, below: str) -> None:
    with tarfile.open(archive) as tar:
        members = [m for m in tar.getmembers() if m.name.removeprefix("./").startswith(below) and ".." not in m.name]
        tar.extractall(to, members=members)


if __name__ == "__main__":
    fetch(Path(sys.argv[1]).resolve())
