"""What is declared: exchanges, queues, bindings, and which queues a message goes to. No wire, no I/O."""
