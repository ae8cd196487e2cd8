"""The API of TensorFlow Serving, over gRPC and REST."""
