"""This project's Triton backend in C++: OpenVINO behind the server's queue, in the server's process."""
