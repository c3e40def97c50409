"""Whom both transports trust."""

from __future__ import annotations

import ssl

from certifi import where

from routerkit.errors import ConfigurationError


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """TLS 1.2 or later, verified against certifi's authorities and those of a PEM file, if one is given.

    Raises ConfigurationError when that file cannot be read.
    """
    context = ssl.create_default_context(cafile=where())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:
            raise ConfigurationError(f"ca_file={ca_file!r}: {error.strerror or error}") from None
    return context
