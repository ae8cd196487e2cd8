"""The application of Ray Serve, and the server without ports that each of its replicas is."""
