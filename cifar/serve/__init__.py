"""A page and an HTTP API to try a trained model: python -m cifar.serve. Needs the extra "serve"."""
