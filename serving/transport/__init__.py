"""Bytes in, bytes out: the gRPC and HTTP servers, TLS, status codes."""
