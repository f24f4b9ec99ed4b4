"""Pictures, sounds and texts to what the model computes with: autoencoders, log-mel, conditions."""
