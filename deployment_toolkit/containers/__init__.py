"""Containers: one engine, Docker's or podman's, its images and the devices that it gives."""
