"""Programs of others, by what their documentation says to type; run by the interpreter of the extra `peers`."""
