"""The process: the only folder that knows arq, Redis and the environment."""
