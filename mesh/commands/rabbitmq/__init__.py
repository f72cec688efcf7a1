"""`meshgate import rabbitmq`: another broker's definitions, declared here."""
