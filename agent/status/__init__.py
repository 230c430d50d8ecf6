"""What we tell: documents, and the local status socket."""
