"""What ``model_server`` does besides serving: commands, each with arguments of its own."""
