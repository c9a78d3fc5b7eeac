"""Fine-tuning a pretrained network on our own images."""
