"""Files and folders, as Sedna's scripts handle them. Local paths and http(s) downloads only.

Left out on purpose: everything that pickles, and S3, whose objects are in place before a script runs.
"""

import hashlib
import os
import re
import shutil
import tarfile
import tempfile
from typing import Iterable, List, Optional, Union

__all__ = ("FileOps",)

_LOCAL = "file://"


class FileOps:
    """Class methods only."""

    @classmethod
    def make_dir(cls, *args: str) -> None:
        """Make a folder, its parents too; one that exists is fine."""
        os.makedirs(cls.join_path(*args), exist_ok=True)

    @classmethod
    def make_base_dir(cls, *args: str) -> None:
        """Make the folder that a file lies in."""
        folder = os.path.dirname(cls.join_path(*args))
        if folder:
            os.makedirs(folder, exist_ok=True)

    @classmethod
    def join_path(cls, *args: str) -> str:
        """Join parts of a path or url; a part's leading slash does not start anew, save the first's."""
        first, rest = str(args[0]), [str(part).lstrip(os.path.sep) for part in args[1:]]
        return os.path.join(first, *rest) if rest else first

    @classmethod
    def get_file_hash(cls, filepath: str) -> str:
        """Give the MD5 of a file, in hex; nothing where there is no file. A name, not a protection."""
        if not (filepath and os.path.isfile(filepath)):
            return ""
        digest = hashlib.md5()  # noqa: S324 (Sedna's; nothing relies on it)
        with open(filepath, "rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
        return digest.hexdigest()

    @classmethod
    def clean_folder(
        cls, target: Union[str, Iterable[str]], clean: bool = True
    ) -> Union[str, List[str]]:
        """Make folders exist; with `clean`, empty. For the path of a file: the folder it lies in."""
        paths = [target] if isinstance(target, str) else [str(path) for path in target if path]
        for path in set(paths):
            folder = path
            if os.path.isfile(path):
                folder = os.path.dirname(path)
                if clean:
                    os.remove(path)
            elif os.path.isdir(path) and clean:
                shutil.rmtree(path)
            if folder:
                os.makedirs(folder, exist_ok=True)
        return paths

    @classmethod
    def remove_path_prefix(cls, org_str: str, prefix: str) -> str:
        """Turn a path in the container into the node's: without `prefix`."""
        start = prefix.rstrip(os.path.sep) if prefix else ""
        return org_str[len(start) :] if start and org_str.startswith(start) else org_str

    @classmethod
    def copy_folder(cls, src: str, dst: Optional[str]) -> None:
        """Copy what lies in a folder into another one, over what is there."""
        if not dst or not os.path.isdir(src):
            return
        for folder, _, names in os.walk(src):
            there = os.path.join(dst, os.path.relpath(folder, src))
            os.makedirs(there, exist_ok=True)
            for name in names:
                shutil.copy(os.path.join(folder, name), os.path.join(there, name))

    @classmethod
    def copy_file(cls, src: str, dst: Optional[str]) -> None:
        """Copy a file to a path or into a folder; a folder by `copy_folder`."""
        if not dst:
            return
        if os.path.isdir(src):
            cls.copy_folder(src, dst)
        elif os.path.isfile(src):
            if os.path.isdir(dst):
                dst = os.path.join(dst, os.path.basename(src))
            cls.make_base_dir(dst)
            if not (os.path.isfile(dst) and os.path.samefile(src, dst)):
                shutil.copy(src, dst)

    @classmethod
    def download(cls, src: str, dst: Optional[str], unzip: bool = False) -> str:
        """Bring a local path or http(s) url to `dst`, or to a new folder, and give where it is.

        With `unzip`, a .tar.gz is unpacked beside itself. Raises ValueError for another scheme: a dataset
        or model whose url is s3:// is brought by the job itself.
        """
        target = dst or os.path.join(tempfile.mkdtemp(), os.path.basename(src) or "download")
        if re.match("https?://", src):
            import urllib.request  # takes a while to load

            cls.make_base_dir(target)
            urllib.request.urlretrieve(src, target)  # noqa: S310 (the scheme was looked at)
        else:
            cls.copy_file(cls._local(src), target)
        if unzip and target.endswith(".tar.gz"):
            cls._unpack(target)
        return target

    @classmethod
    def upload(cls, src: str, dst: Optional[str], tar: bool = False) -> str:
        """Bring a local file or folder to another local path, packed as .tar.gz with `tar`."""
        target = cls._local(dst or tempfile.mkdtemp())
        if tar:
            packed = src + ".tar.gz"
            with tarfile.open(packed, "w:gz") as archive:
                archive.add(src, arcname=os.path.basename(src))
            src = packed
        cls.copy_file(src, target)
        return target

    @classmethod
    def is_local(cls, src: str) -> bool:
        """Say whether this is a path of this machine."""
        return src.startswith(_LOCAL) or cls.exists(src)

    @classmethod
    def exists(cls, folder: str) -> bool:
        """Say whether a file or folder is there."""
        return os.path.isdir(folder) or os.path.isfile(folder)

    @classmethod
    def _local(cls, url: str) -> str:
        path = url[len(_LOCAL) :] if url.startswith(_LOCAL) else url
        if "://" in path:
            raise ValueError(
                "FileOps: got {!r}, expected a path or http(s):// url; s3:// urls of the job's datasets "
                "and models are in place before a script runs".format(url)
            )
        return path

    @classmethod
    def _unpack(cls, path: str) -> None:
        """Unpack plain files and folders that stay below the archive's own folder."""
        folder = os.path.dirname(os.path.abspath(path))
        with tarfile.open(path, "r:gz") as archive:
            for member in archive.getmembers():
                there = os.path.abspath(os.path.join(folder, member.name))
                inside = there == folder or there.startswith(
                    folder.rstrip(os.path.sep) + os.path.sep
                )
                if not inside or not (member.isfile() or member.isdir()):
                    raise ValueError(
                        "{}: got the member {!r}, expected plain files below the archive's folder".format(
                            path, member.name
                        )
                    )
                if member.isdir():
                    os.makedirs(there, exist_ok=True)
                    continue
                source = archive.extractfile(member)
                os.makedirs(os.path.dirname(there), exist_ok=True)
                if source is not None:
                    with source, open(there, "wb") as target:
                        shutil.copyfileobj(source, target)
