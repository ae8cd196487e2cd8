"""Certificate authorities of their own, for tests that speak TLS; made with the openssl program."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Pair:
    """A private key and its certificate, as PEM texts and as files."""

    key_file: Path
    cert_file: Path

    @property
    def key(self) -> str:
        return self.key_file.read_text()

    @property
    def cert(self) -> str:
        return self.cert_file.read_text()


class Authority:
    """Signs certificates for localhost and 127.0.0.1."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.cert_file = folder / "ca.crt"
        self._openssl(
            *("req", "-x509", *_NEW_KEY, "-keyout", "ca.key", "-out", "ca.crt"),
            *("-days", "2", "-subj", f"/CN=CA of {folder.name}"),
        )
        (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")

    @property
    def cert(self) -> str:
        return self.cert_file.read_text()

    def issue(self, name: str) -> Pair:
        """A new key with a certificate for it."""
        self._openssl(
            *("req", *_NEW_KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr"),
            *("-subj", f"/CN={name}"),
        )
        self._openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key"),
            *("-CAcreateserial", "-days", "2", "-extfile", "names", "-out", f"{name}.crt"),
        )
        return Pair(self._folder / f"{name}.key", self._folder / f"{name}.crt")

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self._folder, check=True, capture_output=True)


def ssl_config(server: Pair, client_ca: str = "") -> str:
    """An SSLConfig in text format; with a CA, clients are verified."""
    text = f"server_key: {_quoted(server.key)} server_cert: {_quoted(server.cert)}"
    if client_ca:
        text += f" custom_ca: {_quoted(client_ca)} client_verify: true"
    return text


def _quoted(pem: str) -> str:
    return '"' + pem.replace("\n", "\\n") + '"'
