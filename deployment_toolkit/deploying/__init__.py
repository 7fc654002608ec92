"""Deployment of a model file: settings, config.pbtxt, model repository, load."""
