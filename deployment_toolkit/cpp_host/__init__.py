"""A Triton backend of this project's own, in C++: OpenVINO behind the server's queue, in the server's process."""
