"""The command lines: one module a verb, each with `main(arguments)`."""
