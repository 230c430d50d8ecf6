"""What we do with a connection: tunnels over mutual TLS, delivery, and the relay."""
