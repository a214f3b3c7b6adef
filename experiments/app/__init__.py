"""The command line: Hydra around a command, configuration schemas, executors, the terminal."""
