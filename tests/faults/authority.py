"""A city's certificate authority, by openssl: certificates that are good, and those that are wrong in every way."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from catalogue import NotHere

DAY = 86_400.0
_CONFIG = """
[ca]
default_ca = city
[city]
database = {folder}/index.txt
serial = {folder}/serial
new_certs_dir = {folder}
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
[req]
distinguished_name = name
[name]
"""


class Authority:
    """`ca` is its own certificate. `issue` gives a certificate and its key as files."""

    def __init__(self, folder: Path, name: str = "city") -> None:
        if not shutil.which("openssl"):
            raise NotHere("openssl is not installed")
        folder.mkdir(parents=True)
        self.folder = folder
        self.ca = folder / "ca.pem"
        (folder / "index.txt").touch()
        (folder / "serial").write_text("01\n")
        (folder / "openssl.cnf").write_text(_CONFIG.format(folder=folder))
        extensions = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")
        uses = [part for extension in extensions for part in ("-addext", extension)]
        files = ("-keyout", "ca.key", "-out", "ca.pem", "-days", "3650")
        self._openssl("req", "-x509", *_key(), *files, "-subj", f"/CN={name}", *uses)

    def issue(
        self, name: str, *, host: str = "", starts: float = -DAY, ends: float = 365 * DAY, into: str = ""
    ) -> tuple[Path, Path]:
        """Sign a certificate: a server's for `host`, a client's without. `starts` and `ends` in seconds from now."""
        into = into or name
        subject = f"\nsubjectAltName={_alternative(host)}\nextendedKeyUsage=serverAuth" if host else ""
        extensions = self.folder / f"{into}.ext"
        extensions.write_text(
            "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
            + (subject or "extendedKeyUsage=clientAuth").lstrip()
        )
        self._openssl("req", "-new", *_key(), "-keyout", f"{into}.key", "-out", f"{into}.csr", "-subj", f"/CN={name}")
        dates = ("-startdate", _date(starts), "-enddate", _date(ends))
        signer = ("-cert", "ca.pem", "-keyfile", "ca.key", "-extfile", str(extensions))
        self._openssl("ca", "-batch", "-in", f"{into}.csr", "-out", f"{into}.pem", "-notext", *dates, *signer)
        (self.folder / f"{into}.key").chmod(0o644)
        return self.folder / f"{into}.pem", self.folder / f"{into}.key"

    def _openssl(self, command: str, *arguments: str) -> None:
        config = ("-config", "openssl.cnf")
        done = subprocess.run(
            ["openssl", command, *config, *arguments], cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def _key() -> tuple[str, ...]:
    return "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"


def _alternative(host: str) -> str:
    return f"IP:{host}" if host.replace(".", "").isdigit() else f"DNS:{host}"


def _date(seconds: float) -> str:
    """As ASN.1 writes it."""
    return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + seconds))
