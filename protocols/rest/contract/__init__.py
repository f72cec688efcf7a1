"""What the HTTP listener says of itself: OpenAPI and AsyncAPI."""
