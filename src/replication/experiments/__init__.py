"""The only room of the study that runs a model."""
