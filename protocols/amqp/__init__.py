"""AMQP 1.0: JMS, Azure, Qpid and RabbitMQ 4 clients on the queues and topics of the mesh."""
