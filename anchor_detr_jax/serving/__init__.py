"""A detector as an HTTP service: pictures in, JSON out."""
