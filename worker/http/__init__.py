"""The HTTP face (`media serve`): the one place that knows HTTP. It decodes no picture and runs no job."""

PACKAGES = ("fastapi", "uvicorn", "httptools", "jwt", "python_multipart", "jinja2")
"""What it imports that only the extra `http` brings."""
