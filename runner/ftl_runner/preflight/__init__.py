"""Is this node fit to train? One small function a check, run on every node before the model is loaded."""
