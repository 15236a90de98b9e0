"""From annotation files to model inputs: datasets, mappers, transforms, samplers, loaders."""
