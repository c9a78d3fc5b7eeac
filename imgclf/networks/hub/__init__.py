"""Image models of the Hugging Face Hub as backbones."""
