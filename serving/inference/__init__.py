"""What clients ask of a model: predict, classify, regress, metadata, status. No wire format."""
