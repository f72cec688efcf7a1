"""Bridges to Kafka clusters outside: routes from their topics into the mesh, and from the mesh to their topics."""
