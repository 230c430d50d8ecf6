"""Where we learn of objects: Kubernetes manifests in a directory."""
