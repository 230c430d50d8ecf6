"""What we do with a connection: HBONE over mutual TLS, and the relay."""
