"""Azure's SDKs in emulator mode: Event Hubs on streams, Service Bus on queues. docs/azure.md."""
