"""AMQP 0-9-1 as RabbitMQ speaks it: codec/ ▸ connection and channels ▸ topology/ (exchanges, queues, bindings)."""
