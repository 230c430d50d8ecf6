"""HBONE on the wire: HTTP/2 CONNECT (RFC 9113) without any I/O."""
