"""Containers of a Docker or podman engine: images, containers, access to GPUs."""
