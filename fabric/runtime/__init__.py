"""What runs the components: the protocol, the supervisor, measures, reports and the lease on a data folder."""
