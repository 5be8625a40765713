"""What the figures of the README come from: python -m benchmarks NAME --help."""
