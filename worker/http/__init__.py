"""The HTTP face (`media serve`): the one place that knows HTTP. It decodes no picture and runs no job."""
