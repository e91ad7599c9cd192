"""RabbitMQ: connections, topology, publishing, deliveries, data sets on streams, a private node."""
