"""From a model file to a loaded model: settings, config.pbtxt, model repository, load."""
