"""Model Server: a gRPC-first prediction server that mirrors TensorFlow Serving."""
