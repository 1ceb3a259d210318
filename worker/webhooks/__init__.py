"""Webhooks: messages are posted to an endpoint of the app, signed, and again until it takes them."""
