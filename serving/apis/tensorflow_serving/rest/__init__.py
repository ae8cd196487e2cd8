"""TensorFlow Serving's API over HTTP: JSON in and out."""
